package payment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v86/webhook"

	"github.com/meshmart/meshmart/services/internal/traceparent"
)

const (
	webhookPath = "/webhooks/stripe"
	// webhookLimit is more than any event that is acted upon.
	webhookLimit = 64 << 10
	// webhookTime bounds the body's arrival.
	webhookTime = 10 * time.Second
	// webhooksKept is far longer than Stripe repeats a webhook: three days.
	webhooksKept = 30 * 24 * time.Hour
)

// errEarly says that a webhook came before what led to it was recorded.
var errEarly = errors.New("the payment is not that far yet")

// webhooks hears from Stripe what happened to a charge elsewhere: at its bank, or
// in the dashboard. An event is only the occasion to look at the charge; it may be
// late, out of order, or come again.
type webhooks struct {
	payments *Payments
	look     func(ctx context.Context, id string) (intent, error)
	secret   string
	timeout  time.Duration // of one look
	log      *slog.Logger
}

func (h *webhooks) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+webhookPath, h.serve)
	return mux
}

// stripeEvent is what is read of an event.
type stripeEvent struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Object struct {
			ID            string          `json:"id"`
			Object        string          `json:"object"`
			PaymentIntent json.RawMessage `json:"payment_intent"` // its id, or the whole
		} `json:"object"`
	} `json:"data"`
}

// handled reports whether the event's type is one that is acted upon.
func (e stripeEvent) handled() bool {
	switch e.Type {
	case "payment_intent.canceled", "payment_intent.payment_failed",
		"charge.refunded", "refund.failed", "charge.dispute.created":
		return true
	}
	return false
}

// intent returns the id of the intent that the event is about, or "".
func (e stripeEvent) intent() string {
	o := e.Data.Object
	if o.Object == "payment_intent" {
		return o.ID
	}
	var id string
	if json.Unmarshal(o.PaymentIntent, &id) == nil {
		return id
	}
	var whole intent
	_ = json.Unmarshal(o.PaymentIntent, &whole)
	return whole.ID
}

// serve answers 200 when there is nothing more to do about the event, and another
// code if Stripe is to send it again, or nobody should have sent it.
func (h *webhooks) serve(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhookLimit))
	if errors.As(err, new(*http.MaxBytesError)) {
		http.Error(w, "the event is too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the event did not arrive", http.StatusBadRequest)
		return
	}
	e, err := h.read(body, r.Header.Get("Stripe-Signature"))
	if err != nil {
		h.log.WarnContext(r.Context(), "webhook is refused", "err", err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := h.hear(r.Context(), e); err != nil {
		h.log.WarnContext(r.Context(), "webhook is to come again", "event", e.ID, "type", e.Type, "err", err.Error())
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}

// read returns the event of a body that Stripe has signed. Its errors are for
// whoever sent it, and have nothing of what came.
func (h *webhooks) read(body []byte, signature string) (stripeEvent, error) {
	var e stripeEvent
	if err := webhook.ValidatePayload(body, signature, h.secret); err != nil {
		return e, err
	}
	if json.Unmarshal(body, &e) != nil || e.ID == "" || e.Type == "" {
		return e, errors.New("the body is no event")
	}
	return e, nil
}

// hear acts upon an event, once.
func (h *webhooks) hear(ctx context.Context, e stripeEvent) error {
	id := e.intent()
	if !e.handled() || id == "" {
		h.log.DebugContext(ctx, "webhook is none of the shop's", "event", e.ID, "type", e.Type)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout+settleTimeout)
	defer cancel()
	i, err := h.look(ctx, id)
	if refusedWith(err, http.StatusNotFound) {
		h.log.InfoContext(ctx, "webhook of an unknown charge", "event", e.ID, "type", e.Type, "intent", id)
		return nil
	}
	if err != nil {
		return err
	}
	var p Payment
	var known, first bool
	err = h.payments.store.inTx(ctx, func(tx *store) (err error) {
		if p, known, err = tx.byID(ctx, i.Metadata[metadataPayment]); err != nil || !known {
			return err
		}
		if known = p.ProcessorRef == "" || p.ProcessorRef == i.ID; !known {
			return nil
		}
		if first, err = tx.hear(ctx, e, p.ID, h.payments.clock()); err != nil || !first {
			return err
		}
		return h.follow(ctx, tx, p, i)
	})
	if err != nil {
		return err
	}
	h.tell(ctx, e, i, p, known, first)
	return nil
}

// follow begins what the state of the charge asks for. That all was given back,
// which nobody here has asked for, is a refund like any other: the worker finds it
// done and records it. Everything else comes out by itself: an authorization that
// is gone when it is captured, a card's refusal when the order asks again.
func (h *webhooks) follow(ctx context.Context, tx *store, p Payment, i intent) error {
	if !i.refunded() {
		return nil
	}
	switch p.State {
	case pending, authorized, capturing:
		return fmt.Errorf("payment %s is %s, and refunded at Stripe: %w", p.ID, p.State, errEarly)
	case captured:
		tx.db.AfterCommit(h.payments.wake)
		_, err := tx.begin(ctx, p, wish{to: refunding, due: h.payments.clock(), trace: traceparent.Save(ctx)})
		return err
	}
	return nil
}

// tell logs what came. What somebody has to see to is a warning.
func (h *webhooks) tell(ctx context.Context, e stripeEvent, i intent, p Payment, known, first bool) {
	at := []any{"event", e.ID, "type", e.Type, "intent", i.ID, "status", string(i.Status)}
	if !known {
		h.log.InfoContext(ctx, "webhook of an unknown payment", at...)
		return
	}
	at = append(at, "payment", p.ID, "order", p.OrderID, "state", string(p.State))
	switch {
	case !first:
		h.log.DebugContext(ctx, "webhook came again", at...)
	case e.Type == "charge.dispute.created", e.Type == "refund.failed",
		e.Type == "charge.refunded" && !i.refunded(),
		e.Type == "payment_intent.canceled" && (p.State == authorized || p.State == capturing):
		h.log.WarnContext(ctx, "look at this charge in Stripe's dashboard", at...)
	default:
		h.log.InfoContext(ctx, "webhook", at...)
	}
}

// forget drops old webhooks, until ctx is done.
func (h *webhooks) forget(ctx context.Context) error {
	for tick := time.NewTicker(time.Hour); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
			if err := h.payments.store.forget(ctx, h.payments.clock().Add(-webhooksKept)); err != nil {
				h.log.WarnContext(ctx, "old webhooks are not forgotten", "err", err.Error())
			}
		}
	}
}
