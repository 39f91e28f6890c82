package payment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v86"
	"github.com/stripe/stripe-go/v86/form"
)

// stripeAPI makes the calls to Stripe that the processor needs, each once: who
// repeats them is elsewhere. stripe-go makes the requests. Answers are read into
// structs of ours, since its own hold all of Stripe's types, a megabyte in each
// image.
type stripeAPI struct {
	key      string // a secret
	requests *stripe.BackendImplementation
	http     *http.Client
	log      *slog.Logger
}

func newStripeAPI(base, key string, log *slog.Logger) *stripeAPI {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = workers
	return &stripeAPI{
		key:      key,
		requests: &stripe.BackendImplementation{Type: stripe.APIBackend, URL: strings.TrimSuffix(base, "/")},
		log:      log,
		http: &http.Client{
			Transport: transport,
			Timeout:   time.Minute, // callers have less; this is so that nothing hangs
			// The key is for this host alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// intent is what is read of a PaymentIntent.
type intent struct {
	ID                 string                                 `json:"id"`
	Status             stripe.PaymentIntentStatus             `json:"status"`
	CancellationReason stripe.PaymentIntentCancellationReason `json:"cancellation_reason"`
	LastError          *stripeRefusal                         `json:"last_payment_error"`
	LatestCharge       json.RawMessage                        `json:"latest_charge"` // its id, unless it was asked for whole
	Metadata           map[string]string                      `json:"metadata"`
}

// metadataPayment is under which an intent has the payment's id, and
// metadataOrder the order's.
const (
	metadataPayment = "payment"
	metadataOrder   = "order"
)

// refunded reports whether all that was captured was given back. Only an intent
// that was read by stripeAPI.intent knows.
func (i intent) refunded() bool {
	var charge struct {
		Refunded bool `json:"refunded"`
	}
	return json.Unmarshal(i.LatestCharge, &charge) == nil && charge.Refunded
}

// came returns how far the intent has come, for a choice among several: those
// whose answer was lost before they were in the book have not come anywhere.
func (i intent) came() int {
	switch i.Status {
	case stripe.PaymentIntentStatusRequiresCapture, stripe.PaymentIntentStatusSucceeded:
		return 2
	case stripe.PaymentIntentStatusCanceled:
		return 1
	}
	return 0
}

// create makes an intent that has moved nothing yet. Cards only: with them a
// confirmation ends at once, and an amount can be set aside.
func (a *stripeAPI) create(ctx context.Context, in AuthorizeInput) (i intent, err error) {
	amount, err := stripeAmount(in.Amount)
	if err != nil {
		return intent{}, err
	}
	p := &stripe.PaymentIntentCreateParams{
		Amount:             stripe.Int64(amount),
		Currency:           stripe.String(strings.ToLower(in.Amount.Currency)),
		CaptureMethod:      stripe.String(stripe.PaymentIntentCaptureMethodManual),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		Metadata:           map[string]string{metadataPayment: in.Key, metadataOrder: in.OrderID},
	}
	_, err = a.call(ctx, stripeCall{http.MethodPost, "/v1/payment_intents", "create-" + in.Key, p}, &i)
	return i, err
}

// method makes a PaymentMethod of a token of the older kind.
func (a *stripeAPI) method(ctx context.Context, key, token string) (string, error) {
	p := &stripe.PaymentMethodCreateParams{
		Type: stripe.String(stripe.PaymentMethodTypeCard),
		Card: &stripe.PaymentMethodCreateCardParams{Token: stripe.String(token)},
	}
	var m struct {
		ID string `json:"id"`
	}
	_, err := a.call(ctx, stripeCall{http.MethodPost, "/v1/payment_methods", "method-" + key, p}, &m)
	return m.ID, err
}

// confirm has the amount set aside; replayed says that this is what Stripe answered
// the first time. The holder of the card is not there to be asked for anything.
func (a *stripeAPI) confirm(ctx context.Context, key, id, method string) (i intent, replayed bool, err error) {
	p := &stripe.PaymentIntentConfirmParams{
		PaymentMethod:         stripe.String(method),
		ErrorOnRequiresAction: stripe.Bool(true),
	}
	replayed, err = a.call(ctx, stripeCall{http.MethodPost, intentPath(id, "/confirm"), "confirm-" + key, p}, &i)
	return i, replayed, err
}

// intent returns the intent as it is now, with its charge.
func (a *stripeAPI) intent(ctx context.Context, id string) (i intent, err error) {
	p := &stripe.PaymentIntentRetrieveParams{}
	p.AddExpand("latest_charge")
	_, err = a.call(ctx, stripeCall{http.MethodGet, intentPath(id, ""), "", p}, &i)
	return i, err
}

// search returns the intents of a charge. What was made in the last minutes may
// be missing.
func (a *stripeAPI) search(ctx context.Context, key string) ([]intent, error) {
	p := &stripe.PaymentIntentSearchParams{}
	p.Query = fmt.Sprintf("metadata[%q]:%q", metadataPayment, key)
	var found struct{ Data []intent }
	_, err := a.call(ctx, stripeCall{http.MethodGet, "/v1/payment_intents/search", "", p}, &found)
	return found.Data, err
}

// capture takes what was set aside. Like cancel it needs no key: an intent is
// captured or canceled once, and says so.
func (a *stripeAPI) capture(ctx context.Context, id string) (i intent, err error) {
	_, err = a.call(ctx, stripeCall{http.MethodPost, intentPath(id, "/capture"), "", &stripe.PaymentIntentCaptureParams{}}, &i)
	return i, err
}

func (a *stripeAPI) cancel(ctx context.Context, id string, why stripe.PaymentIntentCancellationReason) (i intent, err error) {
	p := &stripe.PaymentIntentCancelParams{}
	if why != "" {
		p.CancellationReason = stripe.String(why)
	}
	_, err = a.call(ctx, stripeCall{http.MethodPost, intentPath(id, "/cancel"), "", p}, &i)
	return i, err
}

// refund gives back all that was captured. That is done once by itself, so each try
// has a key of its own: to the same one Stripe would give its answer of a failure for
// a day.
func (a *stripeAPI) refund(ctx context.Context, key, id string) error {
	p := &stripe.RefundCreateParams{
		PaymentIntent: stripe.String(id),
		Metadata:      map[string]string{metadataPayment: key},
	}
	var r struct {
		ID     string              `json:"id"`
		Status stripe.RefundStatus `json:"status"`
	}
	_, err := a.call(ctx, stripeCall{http.MethodPost, "/v1/refunds", "", p}, &r)
	if err == nil && r.Status != stripe.RefundStatusSucceeded && r.Status != stripe.RefundStatusPending {
		err = fmt.Errorf("refund %s of intent %s is %q", r.ID, id, r.Status)
	}
	return err
}

func intentPath(id, action string) string {
	return "/v1/payment_intents/" + url.PathEscape(id) + action
}

// stripeCall is a call of the API.
type stripeCall struct {
	method, path string
	key          string // of idempotency; "": it needs none
	params       any    // of stripe-go
}

// answerLimit is more than any answer that is asked for here.
const answerLimit = 1 << 20

// call reads a good answer into a struct. Others are *stripeRefusal. Stripe's own
// words stay out of errors: they may quote tokens.
func (a *stripeAPI) call(ctx context.Context, r stripeCall, into any) (replayed bool, err error) {
	req, err := a.request(ctx, r)
	if err != nil {
		return false, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("ask Stripe: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return false, fmt.Errorf("answer of Stripe to %s: %w", r.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return false, a.refused(ctx, r, resp, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("answer of Stripe to %s can't be read", r.path)
	}
	return resp.Header.Get("Idempotent-Replayed") == "true", nil
}

func (a *stripeAPI) request(ctx context.Context, r stripeCall) (*http.Request, error) {
	values := &form.Values{}
	form.AppendTo(values, r.params)
	encoded, path := values.Encode(), r.path
	if r.method == http.MethodGet && encoded != "" {
		path, encoded = path+"?"+encoded, ""
	}
	params := &stripe.Params{Context: ctx}
	if r.key != "" {
		params.IdempotencyKey = stripe.String(r.key)
	}
	req, err := a.requests.NewRequest(r.method, path, a.key, "application/x-www-form-urlencoded", params)
	if err != nil {
		return nil, fmt.Errorf("request to Stripe: %w", err)
	}
	if encoded != "" {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(encoded)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(encoded))
	}
	return req, nil
}

// refused returns the error of an answer that is none of a success. That the shop's
// key is wrong no repetition mends, so somebody is told at once.
func (a *stripeAPI) refused(ctx context.Context, r stripeCall, resp *http.Response, body []byte) error {
	var answer struct{ Error stripeRefusal }
	_ = json.Unmarshal(body, &answer) // a proxy's page has none
	e := answer.Error
	e.path, e.status, e.requestID = r.path, resp.StatusCode, resp.Header.Get("Request-Id")
	if e.status == http.StatusUnauthorized || e.status == http.StatusForbidden {
		a.log.ErrorContext(ctx, "Stripe does not accept STRIPE_API_KEY", "err", e.Error())
	}
	return &e
}

// stripeRefusal is an error that Stripe answered, or that an intent has kept.
type stripeRefusal struct {
	Type        stripe.ErrorType   `json:"type"`
	Code        stripe.ErrorCode   `json:"code"`
	DeclineCode stripe.DeclineCode `json:"decline_code"`
	Param       string             `json:"param"`

	path, requestID string
	status          int
}

// Error has what leads to the whole in Stripe's dashboard, and no data.
func (e *stripeRefusal) Error() string {
	parts := []string{fmt.Sprintf("Stripe answers %s with %d", e.path, e.status)}
	for _, p := range []string{string(e.Type), string(e.Code), string(e.DeclineCode), e.Param, e.requestID} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// refusedWith reports whether err is an answer with one of the statuses.
func refusedWith(err error, statuses ...int) bool {
	var e *stripeRefusal
	return errors.As(err, &e) && slices.Contains(statuses, e.status)
}
