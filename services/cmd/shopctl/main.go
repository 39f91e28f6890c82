// Command shopctl is the shop's command line for people.
package main

import "github.com/meshmart/meshmart/services/shopctl"

func main() { shopctl.Main() }
