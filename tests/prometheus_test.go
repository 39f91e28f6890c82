package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// prom is the API of Prometheus at a URL.
type prom struct{ url string }

// atLeast returns why a query has no value that great.
func (p prom) atLeast(ctx context.Context, query string, want float64) error {
	var reply struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := fetch(ctx, p.url+"/api/v1/query?query="+url.QueryEscape(query), &reply); err != nil {
		return err
	}
	if len(reply.Data.Result) != 1 {
		return fmt.Errorf("%s has %d values", query, len(reply.Data.Result))
	}
	got, err := strconv.ParseFloat(fmt.Sprint(reply.Data.Result[0].Value[1]), 64)
	if err == nil && got < want {
		err = fmt.Errorf("%s is %v, want at least %v", query, got, want)
	}
	return err
}

// exemplar returns why no series of a query leads to any of the traces.
func (p prom) exemplar(ctx context.Context, query string, traces ...string) error {
	var reply struct {
		Data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	now := time.Now()
	times := fmt.Sprintf("&start=%d&end=%d", now.Add(-time.Hour).Unix(), now.Add(time.Minute).Unix())
	if err := fetch(ctx, p.url+"/api/v1/query_exemplars?query="+url.QueryEscape(query)+times, &reply); err != nil {
		return err
	}
	var got []string
	for _, series := range reply.Data {
		for _, e := range series.Exemplars {
			got = append(got, e.Labels["trace_id"])
			if slices.Contains(traces, e.Labels["trace_id"]) {
				return nil
			}
		}
	}
	return fmt.Errorf("%d exemplars of other traces than %q: %q", len(got), traces, got)
}

// rules returns why not all of the rules are loaded, and those of which it was the
// turn evaluated without an error.
func (p prom) rules(ctx context.Context) error {
	var reply struct {
		Data struct {
			Groups []struct {
				File  string
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := fetch(ctx, p.url+"/api/v1/rules", &reply); err != nil {
		return err
	}
	files, evaluated := map[string]bool{}, 0
	for _, g := range reply.Data.Groups {
		files[filepath.Base(g.File)] = true
		for _, r := range g.Rules {
			switch r.Health {
			case "ok":
				evaluated++
			case "err":
				return fmt.Errorf("rule %s: %s", r.Name, r.LastError)
			}
		}
	}
	want, err := filepath.Glob("../observability/prometheus/rules/*.yaml")
	if err == nil && (len(want) == 0 || len(files) != len(want)) {
		err = fmt.Errorf("%d of %d files are loaded", len(files), len(want))
	}
	if err == nil && evaluated == 0 {
		err = errors.New("none is evaluated yet")
	}
	return err
}

// fetch reads a JSON document.
func fetch(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
