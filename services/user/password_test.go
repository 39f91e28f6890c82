package user

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// cheap is a cost for tests.
var cheap = cost{memory: 64, passes: 1, threads: 1}

func TestPasswordHasItsHashAndNoOther(t *testing.T) {
	p := newPasswords(cheap)
	for _, password := range []string{"correct horse", "", "\x00", strings.Repeat("é", 128)} {
		hash, err := p.hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") {
			t.Errorf("got %s", hash)
		}
		for guess, want := range map[string]bool{password: true, password + "x": false, "Correct horse": false} {
			if ok, outdated, err := p.verify(t.Context(), hash, guess); ok != want || outdated || err != nil {
				t.Errorf("%q for %q: got %v, %v, %v", guess, password, ok, outdated, err)
			}
		}
	}
}

func TestSamePasswordHashesDifferently(t *testing.T) {
	p := newPasswords(cheap)
	a, _ := p.hash(t.Context(), "same")
	b, _ := p.hash(t.Context(), "same")
	if a == b {
		t.Error("no salt")
	}
}

// The hash is the reference implementation's, for the salt "somesalt".
func TestHashOfAnotherProgramIsReadAndOutdated(t *testing.T) {
	const hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	ok, outdated, err := newPasswords(cheap).verify(t.Context(), hash, "password")
	if !ok || !outdated || err != nil {
		t.Errorf("got %v, %v, %v", ok, outdated, err)
	}
}

func TestNobodysHashIsComputedLikeAnyOther(t *testing.T) {
	p := newPasswords(cheap)
	if ok, outdated, err := p.verify(t.Context(), "", "guess"); ok || outdated || err != nil {
		t.Errorf("got %v, %v, %v", ok, outdated, err)
	}
	c, salt, key, err := readPHC(p.decoy)
	if err != nil || c != p.cost || len(salt) != saltLen || len(key) != hashLen {
		t.Errorf("a decoy of another cost: %s, %v", p.decoy, err)
	}
}

func TestUnreadableHashIsAnErrorThatKeepsIt(t *testing.T) {
	p := newPasswords(cheap)
	for _, hash := range []string{
		"secret", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q", "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$", "$argon2id$v=19$m=64,t=1,p=1$?$?",
	} {
		ok, _, err := p.verify(t.Context(), hash, "guess")
		if ok || err == nil || strings.Contains(err.Error(), hash) {
			t.Errorf("%s: got %v, %v", hash, ok, err)
		}
	}
}

func TestWaitForAPlaceToHashHeedsContext(t *testing.T) {
	p := newPasswords(cheap)
	for range cap(p.places) {
		p.places <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.hash(ctx, "password"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-p.places
	if _, err := p.hash(t.Context(), "password"); err != nil {
		t.Error(err)
	}
}

func BenchmarkHash(b *testing.B) {
	p := newPasswords(standard)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.hash(b.Context(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}
