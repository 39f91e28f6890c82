package db

import (
	"fmt"
	"testing"
)

func TestInIsFilledUpWithTheLastValue(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   string
	}{
		{[]string{"a"}, "$1 [a]"},
		{[]string{"a", "b"}, "$1, $2 [a b]"},
		{[]string{"a", "b", "c"}, "$1, $2, $3, $4 [a b c c]"},
		{[]string{"a", "b", "c", "d", "e"}, "$1, $2, $3, $4, $5, $6, $7, $8 [a b c d e e e e]"},
	} {
		places, args := In(tt.values)
		if got := fmt.Sprint(places, " ", args); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
