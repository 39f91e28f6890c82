package shopctl

import "sort"

// maxRuns bounds a lineMap to 4 MiB.
const maxRuns = 1 << 18

// lineMap tells which line of the file a message of the stream was: the server
// counts messages. It remembers only where lines were left out in between.
type lineMap struct {
	messages int64
	runs     []run
}

// run says that from a message on the lines follow each other.
type run struct{ message, line int64 }

// add notes the line of the next message.
func (m *lineMap) add(line int64) {
	m.messages++
	if n := len(m.runs); n > 0 && m.runs[n-1].line+m.messages-m.runs[n-1].message == line || n == maxRuns {
		return
	}
	m.runs = append(m.runs, run{m.messages, line})
}

// line returns the line of a message, both from 1; 0 if it is not known.
func (m *lineMap) line(message int64) int64 {
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].message > message })
	if i == 0 || i == maxRuns {
		return 0
	}
	return m.runs[i-1].line + message - m.runs[i-1].message
}
