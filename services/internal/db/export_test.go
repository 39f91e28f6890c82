package db

// JointWriters is how many transactions by keys run at once.
const JointWriters = jointWriters

// JointLock is the first statement of a shared transaction.
const JointLock = jointLock

// InLine is how many wait for a writer.
func (d *DB) InLine() int {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	return len(d.queue.line)
}
