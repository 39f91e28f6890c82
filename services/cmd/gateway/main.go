// Gateway serves the shop over HTTP: REST, server-sent events and the console.
package main

import (
	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/services/internal/app"
)

func main() { app.Main(gateway.New()) }
