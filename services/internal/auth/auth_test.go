package auth

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestOwnerAndAdminMayReadAndNobodyElse(t *testing.T) {
	ann := &Principal{Subject: "ann", Roles: []string{RoleUser}}
	root := &Principal{Subject: "root", Roles: []string{RoleUser, RoleAdmin}}
	var nobody *Principal
	for _, c := range []struct {
		p     *Principal
		owner string
		want  bool
	}{
		{ann, "ann", true}, {ann, "bob", false}, {ann, "", false}, {&Principal{}, "", false},
		{root, "ann", true}, {root, "", true}, {nobody, "ann", false}, {nobody, "", false},
	} {
		if got := c.p.MayRead(c.owner); got != c.want {
			t.Errorf("%+v may read %q: got %v, want %v", c.p, c.owner, got, c.want)
		}
	}
}

func TestContextCarriesPrincipal(t *testing.T) {
	if p, ok := From(t.Context()); ok {
		t.Errorf("an empty context has %+v", p)
	}
	if p, ok := From(With(t.Context(), nil)); ok {
		t.Errorf("a context of nobody has %+v", p)
	}
	ann := &Principal{Subject: "ann"}
	if p, ok := From(With(t.Context(), ann)); p != ann || !ok {
		t.Errorf("got %+v, %v", p, ok)
	}
}

func TestBearerReadsOneWellFormedHeader(t *testing.T) {
	for _, c := range []struct {
		headers []string
		token   string
		present bool
		code    codes.Code
	}{
		{nil, "", false, codes.OK},
		{[]string{"Bearer a.b.c"}, "a.b.c", true, codes.OK},
		{[]string{"bEARER a.b.c"}, "a.b.c", true, codes.OK},
		{[]string{"Bearer   a.b.c"}, "a.b.c", true, codes.OK},
		{[]string{""}, "", true, codes.Unauthenticated},
		{[]string{"Bearer"}, "", true, codes.Unauthenticated},
		{[]string{"Bearer "}, "", true, codes.Unauthenticated},
		{[]string{"a.b.c"}, "", true, codes.Unauthenticated},
		{[]string{"Basic YTpi"}, "", true, codes.Unauthenticated},
		{[]string{"Bearer a b"}, "", true, codes.Unauthenticated},
		{[]string{"Bearer a, Bearer b"}, "", true, codes.Unauthenticated},
		{[]string{"Bearer a", "Bearer a"}, "", true, codes.Unauthenticated},
	} {
		md := metadata.MD{}
		md.Append("Authorization", c.headers...)
		token, present, err := Bearer(metadata.NewIncomingContext(t.Context(), md))
		if token != c.token || present != c.present || fault.Code(err) != c.code {
			t.Errorf("%q: got %q, %v, %v", c.headers, token, present, err)
		}
		if err != nil && (fault.Reason(err) != ReasonInvalid || strings.Contains(err.Error(), "YTpi")) {
			t.Errorf("%q: got %q, %v", c.headers, fault.Reason(err), err)
		}
	}
	if _, present, err := Bearer(context.Background()); present || err != nil {
		t.Errorf("outside a call: got %v, %v", present, err)
	}
}
