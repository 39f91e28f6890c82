// Command inventory runs the inventory service; -help lists its variables.
package main

import (
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/inventory"
)

func main() { app.Main(inventory.New()) }
