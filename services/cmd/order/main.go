// Command order serves the orders.
package main

import (
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/order"
)

func main() { app.Main(order.New()) }
