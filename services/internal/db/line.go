package db

import "context"

// line is where the writers of a SQLite file queue: in the order of their
// coming, and until their context is done. The single connection of the
// writing pool keeps them apart; database/sql alone would give it to any of
// those who wait. A nil line lets everybody through.
type line chan struct{}

// enter waits until the caller is the next to get the connection. The caller
// leaves once it has it.
func (l line) enter(ctx context.Context) (leave func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
