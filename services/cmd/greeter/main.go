// Command greeter serves the greeter.
package main

import (
	"github.com/meshmart/meshmart/services/greeter"
	"github.com/meshmart/meshmart/services/internal/app"
)

func main() { app.Main(greeter.New()) }
