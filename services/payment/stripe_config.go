package payment

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// The values of PAYMENT_PROCESSOR.
const (
	bySimulator = "simulator"
	byStripe    = "stripe"
)

// validateStripe checks what Stripe needs. No error has a value: these are secrets.
func (c *config) validateStripe() error {
	var errs []error
	switch {
	case c.Processor != bySimulator && c.Processor != byStripe:
		errs = append(errs, fmt.Errorf("PAYMENT_PROCESSOR: %q is not simulator or stripe", c.Processor))
	case c.Processor == bySimulator && c.WebhookAddr != "":
		errs = append(errs, errors.New("STRIPE_WEBHOOK_ADDR: there are no webhooks without PAYMENT_PROCESSOR=stripe"))
	case c.Processor == byStripe:
		errs = append(errs, c.validateStripeKey())
	}
	if u, err := url.Parse(c.StripeURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		errs = append(errs, errors.New("STRIPE_API_URL: it is a URL such as https://api.stripe.com"))
	} else if u.Scheme == "http" && stripeMode(c.StripeKey) == "live" {
		errs = append(errs, errors.New("STRIPE_API_URL: a live key goes over https only"))
	}
	if c.WebhookAddr != "" && c.WebhookSecret == "" {
		errs = append(errs, errors.New("STRIPE_WEBHOOK_SECRET: STRIPE_WEBHOOK_ADDR needs it, or anybody could send webhooks"))
	}
	return errors.Join(errs...)
}

func (c *config) validateStripeKey() error {
	switch {
	case c.StripeKey == "":
		return errors.New("STRIPE_API_KEY: PAYMENT_PROCESSOR=stripe needs it")
	case !strings.HasPrefix(c.StripeKey, "sk_") && !strings.HasPrefix(c.StripeKey, "rk_"), strings.ContainsFunc(c.StripeKey, notInKeys):
		return errors.New("STRIPE_API_KEY: it is a secret or restricted key, which begins with sk_ or rk_")
	}
	return nil
}

func notInKeys(r rune) bool { return r <= ' ' || r > '~' }

// stripeMode returns whether a key moves money, as its beginning says.
func stripeMode(key string) string {
	switch {
	case strings.HasPrefix(key, "sk_test_"), strings.HasPrefix(key, "rk_test_"):
		return "test"
	case strings.HasPrefix(key, "sk_live_"), strings.HasPrefix(key, "rk_live_"):
		return "live"
	}
	return "unknown"
}
