// Package line is what the load tells of one second.
package line

import "time"

// Line is of the calls that have ended since the line before.
type Line struct {
	Took   []int64   `json:"took,omitempty"` // of each call, in milliseconds
	Failed []Failure `json:"failed,omitempty"`
	Orders []Order   `json:"orders,omitempty"` // that were accepted
	Done   bool      `json:"done,omitempty"`   // it is the last line
}

// Failure is a call that has failed.
type Failure struct {
	Began, Ended time.Time // by the load's clock
	Call, Error  string
}

// Order is one that the shop has promised.
type Order struct {
	ID    string `json:"id"`
	Trace string `json:"trace"`
}
