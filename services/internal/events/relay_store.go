package events

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// settleTimeout bounds the statements that also run when ctx is done.
const settleTimeout = 3 * time.Second

// oldest returns the first n rows of the outbox.
func (o *Outbox) oldest(ctx context.Context, n int) ([]row, error) {
	rows, err := o.db.Query(ctx, `SELECT id, subject, headers, payload FROM outbox ORDER BY id LIMIT $1`, n)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.subject, &r.headers, &r.payload); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return all, nil
}

// lag returns how many events wait in the outbox, and since when the first does;
// the zero time if none does.
func (o *Outbox) lag(ctx context.Context) (waiting int64, since time.Time, err error) {
	var first sql.Null[int64]
	err = o.db.Row(ctx, `SELECT (SELECT COUNT(*) FROM outbox), (SELECT create_time FROM outbox ORDER BY id LIMIT 1)`).Scan(&waiting, &first)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("lag of the outbox: %w", err)
	}
	if first.Valid {
		since = db.Time(first.V)
	}
	return waiting, since, nil
}

// lease makes this replica the one that publishes, unless another one is. Where
// there can be no other, the lease that a crash left is not waited for.
func (o *Outbox) lease(ctx context.Context) error {
	now := o.bus.cfg.Clock()
	n, err := o.db.Exec(ctx, `UPDATE outbox_lease SET owner = $1, lease_until = $2 WHERE owner = $3 OR lease_until < $4 OR $5`,
		o.owner, db.Micros(now.Add(leaseTime)), o.owner, db.Micros(now), o.db.Exclusive())
	if err != nil {
		return fmt.Errorf("lease outbox: %w", err)
	}
	if n == 0 {
		return errBusy
	}
	o.until = now.Add(leaseTime)
	return nil
}

// holds reports whether we have the lease for as long as a window should take.
func (o *Outbox) holds() bool {
	return o.bus.cfg.Clock().Add(keptTime / 2).Before(o.until)
}

// settle deletes what the broker has, and keeps the lease for that long. It runs to
// its end though ctx may be done: at a shutdown the next replica shall neither wait
// nor send again.
//
// A crash of the server may undo it: then the events are sent once more, and dropped
// by the broker or the inboxes; and who else takes the lease does no harm.
func (o *Outbox) settle(ctx context.Context, acked []string, keep time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	end := time.UnixMicro(0)
	if keep > 0 {
		end = o.bus.cfg.Clock().Add(keep)
	}
	o.until = time.Time{}
	var kept int64
	err := o.db.InTx(ctx, func(tx *db.DB) error {
		tx.Forgettable(ctx)
		if err := remove(ctx, tx, acked); err != nil {
			return err
		}
		// It all goes at once: were the replica cut off in between, the server would
		// hold the lease's row for it, and nobody could publish.
		return tx.Count(ctx, &kept, `UPDATE outbox_lease SET lease_until = $1 WHERE owner = $2`, db.Micros(end), o.owner)
	})
	switch {
	case err != nil:
		return fmt.Errorf("settle outbox: %w", err)
	case keep > 0 && kept > 0:
		o.until = end
	case keep > 0:
		return errBusy // we were too slow, and somebody took over
	}
	return nil
}

func remove(ctx context.Context, tx *db.DB, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	places, args := db.In(ids)
	if err := tx.Later(ctx, `DELETE FROM outbox WHERE id IN (`+places+`)`, args...); err != nil {
		return fmt.Errorf("delete from outbox: %w", err)
	}
	return nil
}
