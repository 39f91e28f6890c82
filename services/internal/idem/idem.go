// Package idem makes a request take effect once, however often it comes.
//
// A caller that hears nothing repeats its request with the same request_id
// (AIP-155). The effect and the reply are stored in one transaction, so the
// repetition gets the reply of the first, even if both come at once. Who
// reuses an id for another request is refused.
package idem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

//go:embed schema/*.sql
var files embed.FS

// Schema is the table of requests. A service that uses Do opens its database
// with it.
var Schema = db.Schema{Name: "idem", FS: files}

// idField is the field that makes a request repeatable.
const idField = "request_id"

// Key says which requests are the same.
type Key struct {
	Scope       string // where ID is unique
	ID          string // chosen by the caller; "" if the request can't be repeated
	Fingerprint []byte // of what was asked
}

// KeyOf returns the key of a gRPC request: the scope is the method and the
// user, so that nobody meets another's reply; the id is the field request_id;
// the fingerprint is that of all other fields but those to omit. Omit what may
// differ in a repetition, and secrets that could be guessed from a hash. It
// panics on a field to omit that the request does not have.
func KeyOf(ctx context.Context, req proto.Message, omit ...string) Key {
	method, _ := grpc.Method(ctx)
	key := Key{Scope: method}
	if p, ok := auth.From(ctx); ok {
		key.Scope += " " + p.Subject
	}
	m := req.ProtoReflect()
	id := m.Descriptor().Fields().ByName(idField)
	if id == nil || id.Kind() != protoreflect.StringKind {
		return key
	}
	key.ID = strings.ToLower(m.Get(id).String()) // a UUID is the same in capitals (RFC 9562)
	key.Fingerprint = fingerprint(req, append(omit, idField))
	return key
}

func fingerprint(req proto.Message, omit []string) []byte {
	m := proto.Clone(req).ProtoReflect()
	for _, name := range omit {
		field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if field == nil {
			panic(fmt.Sprintf("idem: %s has no field %s", m.Descriptor().FullName(), name))
		}
		m.Clear(field)
	}
	// Another release may write the same message in another order; a repetition
	// that meets one is refused rather than served twice.
	data, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m.Interface())
	if err != nil {
		panic(fmt.Sprintf("idem: %s: %v", m.Descriptor().FullName(), err)) // no message that gRPC has read
	}
	sum := sha256.Sum256(data)
	return sum[:]
}

// Do runs fn in a transaction, or returns the reply of the earlier run with
// the same key; while that still goes on, Do waits for it. An fn that fails
// leaves nothing behind, so a repetition runs it again. The reply is kept as
// JSON; T is a message or a type that encoding/json brings back whole.
//
// The same id with another fingerprint is refused: INVALID_ARGUMENT, with the
// violation REQUEST_ID_REUSED of the field request_id.
func Do[T any](ctx context.Context, d *db.DB, key Key, fn func(tx *db.DB) (T, error)) (T, error) {
	var reply T
	replayed := false
	err := d.InTx(ctx, func(tx *db.DB) (err error) {
		replayed = false // the transaction may be tried again
		if key.ID == "" {
			reply, err = fn(tx)
			return err
		}
		first, err := claim(ctx, tx, key)
		if err != nil {
			return fmt.Errorf("request %s: %w", key.ID, err)
		}
		if !first {
			replayed = true
			reply, err = earlier[T](ctx, tx, key)
			return err
		}
		if reply, err = fn(tx); err != nil {
			return err
		}
		return keep(ctx, tx, key, reply)
	})
	if err != nil {
		var none T
		return none, err
	}
	if replayed {
		Replayed(ctx)
	}
	return reply, nil
}

// claim records that the request is being served, and returns false if it was
// already. On PostgreSQL the INSERT waits for a transaction that has claimed
// the same id; on SQLite there is no other transaction.
func claim(ctx context.Context, tx *db.DB, key Key) (bool, error) {
	n, err := tx.Exec(ctx, `
		INSERT INTO idem (scope, id, fingerprint, reply, create_time) VALUES ($1, $2, $3, '', $4)
		ON CONFLICT DO NOTHING`, key.Scope, key.ID, key.Fingerprint, db.Micros(time.Now()))
	return n == 1, err
}

func earlier[T any](ctx context.Context, tx *db.DB, key Key) (reply T, err error) {
	var fingerprint []byte
	var text string
	err = tx.Row(ctx, `SELECT fingerprint, reply FROM idem WHERE scope = $1 AND id = $2`, key.Scope, key.ID).
		Scan(&fingerprint, &text)
	if err != nil {
		return reply, fmt.Errorf("reply to request %s: %w", key.ID, err)
	}
	if !bytes.Equal(fingerprint, key.Fingerprint) {
		return reply, fault.Violations(fault.Violation{
			Field:  idField,
			Reason: "REQUEST_ID_REUSED",
			Text:   "was used for another request; a new request needs a new id",
		})
	}
	if err := decode([]byte(text), &reply); err != nil {
		return reply, fmt.Errorf("reply to request %s: %w", key.ID, err)
	}
	return reply, nil
}

func keep(ctx context.Context, tx *db.DB, key Key, reply any) error {
	text, err := encode(reply)
	if err != nil {
		return fmt.Errorf("reply to request %s: %w", key.ID, err)
	}
	_, err = tx.Exec(ctx, `UPDATE idem SET reply = $3 WHERE scope = $1 AND id = $2`, key.Scope, key.ID, string(text))
	if err != nil {
		return fmt.Errorf("keep reply to request %s: %w", key.ID, err)
	}
	return nil
}

func encode(reply any) ([]byte, error) {
	if m, ok := reply.(proto.Message); ok {
		return protojson.Marshal(m)
	}
	return json.Marshal(reply)
}

// decode fills *reply. encoding/json would lose the oneofs of a message.
func decode[T any](text []byte, reply *T) error {
	m, ok := any(*reply).(proto.Message)
	if !ok {
		return json.Unmarshal(text, reply)
	}
	m = m.ProtoReflect().New().Interface()
	*reply = m.(T)
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, m)
}

// Prune forgets the requests from before olderThan and returns how many. It
// does so in steps, between which others can write.
func Prune(ctx context.Context, d *db.DB, olderThan time.Time) (int64, error) {
	const step = 1000
	for total := int64(0); ; {
		n, err := d.Exec(ctx, `
			DELETE FROM idem WHERE (scope, id) IN (
				SELECT scope, id FROM idem WHERE create_time < $1 ORDER BY create_time LIMIT $2)`,
			db.Micros(olderThan), step)
		total += n
		if err != nil {
			return total, fmt.Errorf("prune requests: %w", err)
		}
		if n < step {
			return total, nil
		}
	}
}
