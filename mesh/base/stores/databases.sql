CREATE DATABASE shop_product;
CREATE DATABASE shop_user;
CREATE DATABASE shop_inventory;
CREATE DATABASE shop_order;
CREATE DATABASE shop_payment;
