// Command shop runs the whole shop in one process, with nothing to install.
package main

import "github.com/meshmart/meshmart/services/shop"

func main() { shop.Main() }
