package shop

import (
	"errors"
	"strings"
	"testing"
)

func TestReadyWhenAllAre(t *testing.T) {
	r := newReadiness()
	r.set("order", errors.New("database: away"))
	if err := r.check(); err == nil || !strings.Contains(err.Error(), "order (database: away)") || !strings.Contains(err.Error(), "stock (starting)") {
		t.Errorf("got %v", err)
	}
	r.set("order", nil)
	r.set("stock", nil)
	if err := r.check(); err != nil {
		t.Errorf("got %v", err)
	}
}
