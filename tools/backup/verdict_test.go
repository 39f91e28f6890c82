package main

import (
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    entry
		want change
		news string
	}{
		{"at rest", entry{state: "COMPLETED", step: "DONE", reservation: "COMMITTED", payment: "CAPTURED", committed: true, captured: true}, none, ""},
		{"at rest", entry{state: "REJECTED", step: "DONE", reservation: "RELEASED", payment: "DECLINED"}, none, ""},
		{"at rest", entry{state: "CANCELLED", step: "DONE", reservation: "RETURNED", payment: "REFUNDED"}, none, ""},
		{"never heard of", entry{reservation: "RESERVED"}, adopt, ""},
		{"never heard of", entry{payment: "CAPTURED"}, adopt, ""},
		{"the saga goes on", entry{state: "PENDING", step: "RESERVE"}, none, ""},
		{"the saga goes on", entry{state: "PENDING", step: "AUTHORIZE", reservation: "RESERVED"}, none, ""},
		{"its reservation is lost", entry{state: "PENDING", step: "AUTHORIZE"}, again, ""},
		{"others are ahead", entry{state: "PENDING", step: "RESERVE", reservation: "COMMITTED", payment: "CAPTURED"}, ahead, "stock.committed payment.captured"},
		{"others are ahead", entry{state: "PENDING", step: "RESERVE", reservation: "RESERVED", payment: "AUTHORIZED"}, ahead, ""},
		{"others are ahead", entry{state: "PENDING", step: "RESERVE", reservation: "RESERVED", payment: "DECLINED"}, none, ""},
		{"its reservation is lost, and it is paid", entry{state: "PENDING", step: "RESERVE", payment: "AUTHORIZED"}, cancel, ""},
		{"its reservation is lost, and it is paid", entry{state: "PENDING", step: "AUTHORIZE", payment: "CAPTURED"}, cancel, ""},
		{"it was cancelled meanwhile", entry{state: "PENDING", step: "AUTHORIZE", reservation: "RESERVED", payment: "VOIDED"}, cancel, ""},
		{"its undo is lost", entry{state: "PENDING", step: "UNDO_STOCK", payment: "AUTHORIZED"}, undo, ""},
		{"nobody has heard of it", entry{state: "CONFIRMED", reservation: "RESERVED", payment: "AUTHORIZED"}, none, "order.confirmed"},
		{"one has", entry{state: "CONFIRMED", reservation: "COMMITTED", payment: "CAPTURING", committed: true}, none, ""},
		{"it has not heard of one", entry{state: "CONFIRMED", reservation: "COMMITTED", payment: "CAPTURED", committed: true}, none, "payment.captured"},
		{"its capture was declined", entry{state: "CONFIRMED", reservation: "RESERVED", payment: "DECLINED"}, none, "order.confirmed payment.declined"},
		{"it was cancelled later", entry{state: "CONFIRMED", reservation: "RETURNED", payment: "REFUNDED"}, cancel, ""},
		{"its payment is lost", entry{state: "CONFIRMED", reservation: "RESERVED"}, cancel, ""},
		{"its sale is lost", entry{state: "COMPLETED", reservation: "RESERVED", payment: "CAPTURED"}, none, "order.confirmed"},
		{"all of it is lost", entry{state: "COMPLETED"}, cancel, ""},
		{"it was cancelled later", entry{state: "COMPLETED", reservation: "COMMITTED", payment: "REFUNDING"}, cancel, ""},
		{"its refund is lost", entry{state: "CANCELLING", step: "UNDO_STOCK", payment: "CAPTURED"}, undo, ""},
		{"its mark is lost", entry{state: "REJECTED", step: "DONE", payment: "DECLINED"}, undo, ""},
		{"its release is lost", entry{state: "REJECTED", step: "DONE", reservation: "RESERVED"}, undo, ""},
		{"its refund is lost", entry{state: "CANCELLED", step: "DONE", reservation: "RETURNED", payment: "CAPTURED"}, undo, ""},
	} {
		if got := tt.e.verdict(); got != tt.want {
			t.Errorf("%s: %+v %s, want that it %s", tt.name, tt.e, told[got], told[tt.want])
		}
		if got := strings.Join(tt.e.announcements(), " "); got != tt.news {
			t.Errorf("%s: %+v: %q is announced again, want %q", tt.name, tt.e, got, tt.news)
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "no command"},
		{"save", "-dir"},
		{"dump -dir x", `"dump"`},
		{"save -dir x y", `"y"`},
		{"save -dir x -only order,greeter", `"greeter"`},
	} {
		var help strings.Builder
		if _, err := parse(strings.Fields(tt.args), &help); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("backup %s: got %v, want an error that names %s", tt.args, err, tt.want)
		}
	}
}

func TestPasswordIsNoArgument(t *testing.T) {
	cfg := &config{exec: "kubectl exec -i postgres-0 --"}
	cmd, err := cfg.program(t.Context(), database{"order", "postgres://shop:s3cret@db/shop_order?sslmode=require"}, "pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(cmd.Args, " "), "kubectl exec -i postgres-0 -- pg_dump --dbname=postgres://shop@db/shop_order?sslmode=require"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !strings.Contains(strings.Join(cmd.Env, "\n"), "PGPASSWORD=s3cret") {
		t.Error("the program is not told the password")
	}
}
