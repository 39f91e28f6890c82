// Command user serves accounts, sign-in and tokens.
package main

import (
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/user"
)

func main() { app.Main(user.New()) }
