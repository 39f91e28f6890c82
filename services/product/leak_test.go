package product

import (
	"testing"

	"github.com/meshmart/meshmart/services/internal/app/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }
