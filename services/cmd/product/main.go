// Command product serves the catalog.
package main

import (
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/product"
)

func main() { app.Main(product.New()) }
