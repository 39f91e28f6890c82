package db

import "context"

// line is where the writers of a SQLite file queue: in the order of their
// coming, and until their context is done. It keeps them apart.
type line chan struct{}

// enter waits until it is the caller's turn, which ends when it leaves.
func (l line) enter(ctx context.Context) (leave func(), err error) {
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// enterUnless is enter for who need not wait any more once over is closed: then
// it returns nil.
func (l line) enterUnless(over <-chan struct{}) (leave func()) {
	select {
	case l <- struct{}{}:
		return func() { <-l }
	case <-over:
		return nil
	}
}
