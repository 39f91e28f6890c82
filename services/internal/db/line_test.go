package db

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestLineServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := make(line, 1)
		leave, err := l.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for i := range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				leave, err := l.enter(ctx)
				if err != nil {
					return
				}
				got = append(got, i)
				leave()
			}()
			synctest.Wait() // number i stands in line
			if i == 2 {
				cancel()
			}
		}
		leave()
		synctest.Wait()
		if diff := cmp.Diff([]int{0, 1, 3, 4}, got); diff != "" {
			t.Error(diff)
		}
	})
}
