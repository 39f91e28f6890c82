package product

import (
	"testing"

	"go.uber.org/goleak"
)

// The embedded broker leaves some goroutines of its own behind.
func TestMain(m *testing.M) {
	const broker = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(broker+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(broker+"/ats.Register.func1"))
}
