package db

import "context"

// ForUpdate returns what is to follow SELECT ... ORDER BY in a transaction to lock the
// rows in that order, until it ends, as an UPDATE of them does. On SQLite nobody else
// writes meanwhile. It is for changes of many rows at once that one condition in one
// UPDATE can't decide on.
func (d *DB) ForUpdate() string {
	if d.remote {
		return " FOR NO KEY UPDATE"
	}
	return ""
}

// groupLock bounds the wait of Impatient, to far more than a busy server needs.
const groupLock = "SET LOCAL lock_timeout = 1000"

// Impatient has the transaction fail, undone, if it would wait for a row for as long
// as only one who has stopped holds it: who changes rows for many must not keep all of
// them waiting for that.
func (d *DB) Impatient(ctx context.Context) {
	if d.local() {
		d.tx.Later(ctx, groupLock, nil, func(int64, error) {})
	}
}

// Parallel is how many transactions may run at once before it is cheaper to make what
// others want in one (see package batch). SQLite commits some together by itself.
func (d *DB) Parallel() int {
	if d.remote {
		return jointWriters
	}
	return 32
}
