// Command payment runs the payment service; -help lists its variables.
package main

import (
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/payment"
)

func main() { app.Main(payment.New()) }
