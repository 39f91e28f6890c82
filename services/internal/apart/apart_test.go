package apart_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/services/internal/apart"
)

func TestWhatRunsApartIsOver(t *testing.T) {
	n := 0
	apart.Run(func() { n++ })
	if n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestAPanicComesBackWithItsStack(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "boom") || !strings.Contains(p, "apart_test.explode") {
			t.Errorf("panic: %s", p)
		}
	}()
	apart.Run(explode)
	t.Error("no panic")
}

func explode() { panic("boom") }
