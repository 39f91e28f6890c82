package greeter

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
)

// client starts the whole service and returns a client of it.
func client(t *testing.T) (c greeterpb.GreetingServiceClient, stop func()) {
	t.Helper()
	w := apptest.New(t)
	stop = w.Start(New(), nil)
	return greeterpb.NewGreetingServiceClient(w.Conn("greeter")), stop
}

func TestGreetInEachLanguage(t *testing.T) {
	c, _ := client(t)
	for language, text := range hello {
		got, err := c.Greet(t.Context(), &greeterpb.GreetRequest{Name: "Ada", Language: language})
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(text, "%", "Ada", 1); got.GetGreeting().GetMessage() != want {
			t.Errorf("%s: got %q, want %q", language, got.GetGreeting().GetMessage(), want)
		}
	}
	got, err := c.Greet(t.Context(), &greeterpb.GreetRequest{Name: "100%"})
	if err != nil || got.GetGreeting().GetMessage() != "Hello, 100%!" || got.GetGreeting().GetLanguage() != "en" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	c, _ := client(t)
	for _, req := range []*greeterpb.GreetRequest{
		{},
		{Name: strings.Repeat("x", 101)},
		{Name: "Ada", Language: "tlh"},
	} {
		_, err := c.Greet(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "name") && !strings.Contains(err.Error(), "language") {
			t.Errorf("Greet(%.30v) = %v", req, err)
		}
	}
}

func TestListGoesOnWhereItBroke(t *testing.T) {
	c, _ := client(t)
	got := numbers(t, c, &greeterpb.ListGreetingsRequest{Name: "Ada", Count: 3})
	got = append(got, numbers(t, c, &greeterpb.ListGreetingsRequest{Name: "Ada", Count: 2, Start: got[len(got)-1] + 1})...)
	if s := fmt.Sprint(got); s != "[1 2 3 4 5]" {
		t.Errorf("numbers %s", s)
	}
	if n := len(numbers(t, c, &greeterpb.ListGreetingsRequest{Name: "Ada"})); n != 10 {
		t.Errorf("%d greetings by default, want 10", n)
	}
}

func numbers(t *testing.T, c greeterpb.GreetingServiceClient, req *greeterpb.ListGreetingsRequest) (ns []int64) {
	t.Helper()
	stream, err := c.ListGreetings(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ns
		}
		if err != nil {
			t.Fatal(err)
		}
		ns = append(ns, m.GetGreeting().GetNumber())
	}
}

// A client that stops reading stops the server by flow control; when the
// service shuts down the stream still ends, and says where to go on.
func TestShutdownEndsAStreamThatIsNotRead(t *testing.T) {
	c, stop := client(t)
	stream, err := c.ListGreetings(t.Context(), &greeterpb.ListGreetingsRequest{Name: "Ada", Count: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	read := 1
	for ; err == nil; read++ {
		_, err = stream.Recv()
	}
	<-stopped
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "start=") {
		t.Errorf("after %d greetings the stream ended with %v", read, err)
	}
	if read >= 1_000_000 {
		t.Error("the stream was not bounded by its reader")
	}
}

func TestRecordSummarizesInBoundedMemory(t *testing.T) {
	c, _ := client(t)
	stream, err := c.RecordGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const count = 50_000
	send := func(from, to int) {
		for i := from; i < to; i++ {
			if err := stream.Send(&greeterpb.RecordGreetingsRequest{Name: fmt.Sprintf("name %d", i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, count/2)
	before := heap()
	send(count/2, count)
	grown := int64(heap()) - int64(before)
	got, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetCount() != count || len(got.GetSample()) != maxSample || got.GetLongest() != int32(len("name 49999")) {
		t.Errorf("summary %v", got)
	}
	t.Logf("figure: %d names recorded, heap grown by %d KiB over the second half", count, grown>>10)
	if grown > 1<<20 {
		t.Errorf("heap grew by %d bytes over %d names", grown, count/2)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestChatAnswersEachMessage(t *testing.T) {
	c, _ := client(t)
	stream, err := c.ChatGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, language := range []string{"en", "fr", "ja"} {
		if err := stream.Send(&greeterpb.ChatGreetingsRequest{Name: "Ada", Language: language}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil || m.GetGreeting().GetLanguage() != language || m.GetGreeting().GetNumber() != int64(i+1) {
			t.Errorf("got %v, %v", m, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

// A client that neither sends nor ends its stream must not hold up a shutdown.
func TestShutdownEndsAStreamThatSaysNothing(t *testing.T) {
	c, stop := client(t)
	record, err := c.RecordGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chat, err := c.ChatGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.Send(&greeterpb.ChatGreetingsRequest{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); err != nil {
		t.Fatal(err)
	}
	stop() // fails the test if the service had to cut the streams off
	if _, err := record.CloseAndRecv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "open the stream again") {
		t.Errorf("record ended with %v", err)
	}
	if _, err := chat.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "open the stream again") {
		t.Errorf("chat ended with %v", err)
	}
}
