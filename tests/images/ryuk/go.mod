module github.com/meshmart/meshmart/tests/images/ryuk

go 1.26
