package shop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
)

// tab is a page of the console in a real browser.
type tab struct {
	t    *testing.T
	ctx  context.Context
	name string

	mu       sync.Mutex
	problems []string // what the browser has complained about
}

// chromium starts the browser that is installed, or skips the test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no browser; chromium: apt-get install chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // it refuses to run as root otherwise
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	return ctx
}

// newTab opens the console in a window of a size, in the light or the dark.
func newTab(t *testing.T, browser context.Context, url string, width, height int64, scheme string) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser)
	t.Cleanup(stop)
	b := &tab{t: t, ctx: ctx, name: fmt.Sprintf("%dx%d-%s", width, height, scheme)}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			refused := strings.Contains(m.Text, "responded with a status of 4") // as tests ask for
			if m.IsException() || m.Type == chromedp.ConsoleError && !refused {
				b.mu.Lock()
				b.problems = append(b.problems, m.String()+" "+m.URL)
				b.mu.Unlock()
			}
		}
	}()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"}, // what moves is not where it is clicked
		},
	})
	if err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	b.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(url))
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.screenshot("failed")
		b.t.Fatalf("%v; the page says:\n%.2000s", err, eval[string](b, "document.body.innerText"))
	}
}

func eval[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// wait waits until an expression is true.
func (b *tab) wait(js string) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); !eval[bool](b, "Boolean("+js+")"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.screenshot("failed")
			b.t.Fatalf("never: %s; the page says:\n%.2000s", js, eval[string](b, "document.body.innerText"))
		}
	}
}

// sel selects by data-testid; more narrows it down.
func sel(id, more string) string { return fmt.Sprintf(`[data-testid=%q]%s`, id, more) }

func (b *tab) click(id, more string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(sel(id, more))))
}

func (b *tab) fill(id, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(sel(id, "")), text))
}

// set gives a field a value in place of the one that it has.
func (b *tab) set(id, value, event string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf("((e) => { e.value = %q; return e.dispatchEvent(new Event(%q)) })(document.querySelector(%q))",
		value, event, sel(id, "")))
}

func (b *tab) visible(id, more string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(sel(id, more))))
}

func (b *tab) text(id, more string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q).textContent", sel(id, more)))
}

func (b *tab) count(id, more string) int {
	b.t.Helper()
	return eval[int](b, fmt.Sprintf("document.querySelectorAll(%q).length", sel(id, more)))
}

// look checks what must hold for every page: it fits the window, and nothing
// came from elsewhere. With CONSOLE_SCREENSHOTS=folder it leaves a picture there.
func (b *tab) look(page string) {
	b.t.Helper()
	if wide := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		b.t.Errorf("%s is %d pixels wider than the window", page, wide)
	}
	foreign := eval[[]string](b, `performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith(location.origin))`)
	if len(foreign) > 0 {
		b.t.Errorf("%s loads %q", page, foreign)
	}
	b.screenshot(page)
}

func (b *tab) screenshot(page string) {
	dir := os.Getenv("CONSOLE_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, b.name+"-"+page+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Errorf("screenshot of %s: %v", page, err)
	}
}

// quiet fails the test if the browser has complained, as it does about whatever
// the content security policy has stopped.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the browser complains: %s", p)
	}
}

func TestConsole(t *testing.T) {
	browser := chromium(t)
	m := open(t, t.TempDir(), map[string]string{"SIMULATOR_LATENCY": "50ms", "JAEGER_URL": jaegerURL})
	for _, tt := range []struct {
		width, height int64
		scheme        string
	}{{1280, 900, "light"}, {390, 844, "dark"}} {
		t.Run(fmt.Sprint(tt.width, "x", tt.height, " ", tt.scheme), func(t *testing.T) {
			b := newTab(t, browser, m.base, tt.width, tt.height, tt.scheme)
			b.testCatalog()
			b.testOrder()
			b.testDeclined()
			b.testSession()
			b.testCancel()
			b.testDocs(m.base)
			b.quiet()
		})
	}
	t.Run("an outage is shown", func(t *testing.T) {
		m := open(t, t.TempDir(), map[string]string{"SIMULATOR_FAILURE_RATE": "1"})
		newTab(t, browser, m.base, 390, 844, "light").testOutage(m)
	})
	t.Run("changes are shown as they happen, as text", func(t *testing.T) {
		b := newTab(t, browser, m.base, 1280, 900, "dark")
		b.testLive(m.in(t))
		b.quiet()
	})
}

func (b *tab) testCatalog() {
	b.t.Helper()
	b.visible("stock", "[data-available]")
	all := b.count("product", "")
	if all < 60 || b.text("found", "") != fmt.Sprint(all, " products") {
		b.t.Errorf("%d products, found %q", all, b.text("found", ""))
	}
	b.wait(fmt.Sprintf("document.querySelectorAll(%q).length == 7", sel("service", `[data-state="up"]`)))
	if n := b.count("breaker", ""); n != 0 {
		b.t.Errorf("%d circuit breakers are shown open", n)
	}
	b.look("catalog")
	b.click("category-kitchen", "")
	kitchen := b.count("product", "")
	if kitchen == 0 || kitchen >= all {
		b.t.Errorf("%d of %d products are for the kitchen", kitchen, all)
	}
	b.fill("search", "mug")
	b.wait(fmt.Sprintf("document.querySelectorAll(%q).length < %d", sel("product", ""), kitchen))
	if name := strings.ToLower(b.text("product", "")); !strings.Contains(name, "mug") {
		b.t.Errorf("searching for a mug finds %q", name)
	}
	b.set("search", "", "input")
	b.click("category-all", "")
	b.wait(fmt.Sprintf("document.querySelectorAll(%q).length == %d", sel("product", ""), all))
}

// order puts a product into the cart and places the order with a card.
func (b *tab) order(card string) {
	b.t.Helper()
	b.click("add", ":enabled")
	b.click("cart-button", "")
	b.visible("place-order", "")
	b.set("card", card, "change")
	b.look("cart")
	b.click("place-order", "")
}

func (b *tab) testOrder() {
	b.t.Helper()
	const stock = `Number(document.querySelector('[data-testid="stock"][data-available]').dataset.available)`
	before := eval[int](b, stock)
	b.order("tok_visa")
	b.click("tab-sign-up", "") // nobody is signed in yet
	b.fill("email", "ada@")
	b.fill("password", userPassword)
	b.click("submit", "")
	b.wait(fmt.Sprintf("document.querySelector(%q).textContent.includes('Email')", sel("sign-in-error", "")))
	b.look("sign-in")
	b.set("email", uuid.NewString()+"@example.com", "input")
	b.click("submit", "")
	b.visible("order-state", `[data-state="COMPLETED"]`)
	b.wait(fmt.Sprintf("document.querySelectorAll(%q).length == 3", sel("steps", " li.done small:not(:empty)")))
	for _, service := range []string{"gateway", "order", "product", "inventory", "payment"} {
		b.wait(fmt.Sprintf("document.querySelector(%q)", sel("span", fmt.Sprintf("[data-service=%q]", service))))
	}
	eval[any](b, fmt.Sprintf("(document.querySelector(%q).scrollIntoView(), scrollBy(0, -90))", sel("trace", "")))
	b.wait(fmt.Sprintf("!document.querySelector(%q)", sel("toast", "")))
	b.look("trace")
	b.click("span", "")
	b.visible("trace", " .attributes")
	b.look("order")
	b.wantTraceElsewhere()
	if n := b.text("cart-count", ""); n != "0" {
		b.t.Errorf("%s are left in the cart", n)
	}
	b.click("nav-shop", "")
	b.visible("stock", "[data-available]")
	b.wait(fmt.Sprintf("%s == %d", stock, before-1))
}

const jaegerURL = "http://localhost:16686"

// wantTraceElsewhere expects that the order leads to its trace in Jaeger, too.
func (b *tab) wantTraceElsewhere() {
	b.t.Helper()
	link := eval[string](b, fmt.Sprintf("document.querySelector(%q).href", sel("jaeger", "")))
	if id, ok := strings.CutPrefix(link, jaegerURL+"/trace/"); !ok || len(id) != 32 {
		b.t.Errorf("the order leads to %q", link)
	}
}

func (b *tab) testDeclined() {
	b.t.Helper()
	b.order("tok_chargeDeclinedInsufficientFunds")
	b.visible("order-state", `[data-state="REJECTED"]`)
	if got := b.text("order-message", ""); !strings.Contains(got, "insufficient funds") {
		b.t.Errorf("the reason is given as %q", got)
	}
	b.look("refused")
	b.click("try-again", "")
	if n := b.count("cart-line", ""); n != 1 {
		b.t.Errorf("%d lines are left in the cart, for another card", n)
	}
	b.click("cart-close", "")
}

// testSession lets the access token run out: the page gets another by itself.
func (b *tab) testSession() {
	b.t.Helper()
	old := eval[string](b, `JSON.parse(sessionStorage.session).refresh_token`)
	eval[any](b, `sessionStorage.session = JSON.stringify({ ...JSON.parse(sessionStorage.session), access_token: "expired" })`)
	b.click("nav-orders", "")
	b.visible("order", "")
	if now := eval[string](b, `JSON.parse(sessionStorage.session).refresh_token`); now == old {
		b.t.Error("the tokens were not refreshed")
	}
}

func (b *tab) testCancel() {
	b.t.Helper()
	if n := b.count("order", ""); n != 2 {
		b.t.Errorf("%d orders are listed", n)
	}
	b.look("orders")
	b.click("cancel", ":not([hidden])")
	b.click("cancel", ":not([hidden])") // sure
	b.visible("state", `[data-state="CANCELLED"]`)
}

func (b *tab) testDocs(base string) {
	b.t.Helper()
	b.do(chromedp.Navigate(base + "/docs"))
	b.visible("operation", "")
	const greet = `[data-operation="GreetingService_Greet"]`
	b.click("operation", greet+" > summary")
	b.click("operation", greet+" details > summary")
	b.do(chromedp.SetValue(chromedp.CSS(sel("operation", greet+" textarea")), `{"name": "Ada"}`))
	b.click("operation", greet+` [data-testid="send"]`)
	b.wait(fmt.Sprintf("document.querySelector(%q).textContent.includes('Hello, Ada!')", sel("operation", greet+" pre[tabindex]")))
	b.look("docs")
}

// testOutage orders until the payments are known to be out.
func (b *tab) testOutage(m *market) {
	b.t.Helper()
	token, product := m.customer(), m.product(5)
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	go func() { // they wait for the payment, whose processor fails each call
		defer close(done)
		for ctx.Err() == nil {
			m.orderFor(token, orderOf(product, 1, "tok_visa"), 500*time.Millisecond)
		}
	}()
	b.wait(fmt.Sprintf("document.querySelector(%q)", sel("breaker", `[data-breaker="order/payment"]`)))
	b.look("outage")
	refused := fmt.Sprintf("document.querySelector(%q)?.textContent.startsWith('Payments can')", sel("checkout-error", ""))
	for first := true; !eval[bool](b, "Boolean("+refused+")"); first = false {
		b.click("nav-shop", "") // the order was a probe, and waits
		b.click("add", ":enabled")
		b.click("cart-button", "")
		b.visible("place-order", "")
		b.click("place-order", "")
		if first {
			b.click("guest", "")
		}
		b.wait(refused + " || location.hash.startsWith('#/orders/')")
	}
	b.look("refused-for-an-outage")
}

func (b *tab) testLive(m *market) {
	b.t.Helper()
	b.visible("stock", "[data-available]")
	name := `<img src=x onerror="document.title='owned'">`
	m.must("POST", "/v1/products", m.admin(), object{"initial_stock": 3, "product": object{
		"sku": "live-" + uuid.NewString()[:8], "name": name, "category": "live", "image": "https://elsewhere.example/x.png",
		"price": object{"currency_code": "EUR", "units": "1"},
	}})
	b.visible("category-live", "")
	b.click("category-live", "")
	b.wait(fmt.Sprintf("document.querySelector(%q).textContent === %q", sel("product", " h2"), name))
	b.wait(fmt.Sprintf("document.querySelector(%q).textContent === 'Only 3 left'", sel("stock", "")))
	if title := eval[string](b, "document.title"); title != "meshmart" {
		b.t.Errorf("the title is %q: a name has run as a script", title)
	}
	b.look("live")
}
