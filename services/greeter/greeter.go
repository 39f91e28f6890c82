// Package greeter is the smallest whole service: one RPC of each kind that gRPC
// has, and nothing to store. docs/streaming.md explains them, and `make new-service`
// begins a service that stores something.
package greeter

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Greeting is one greeting.
type Greeting struct {
	Message  string
	Language string // BCP 47
	Number   int64  // in its stream, from 1
	Time     time.Time
}

// The contract lists the same languages.
var hello = map[string]string{
	"en": "Hello, %!",
	"de": "Hallo, %!",
	"es": "¡Hola, %!",
	"fr": "Bonjour, % !",
	"it": "Ciao, %!",
	"ja": "こんにちは、%さん！",
	"nl": "Hallo, %!",
	"pl": "Cześć, %!",
	"pt": "Olá, %!",
	"tr": "Merhaba, %!",
}

// greet greets name in a language; an empty one is English.
func greet(name, language string, number int64, now time.Time) Greeting {
	if hello[language] == "" {
		language = "en"
	}
	return Greeting{
		Message:  strings.Replace(hello[language], "%", name, 1),
		Language: language,
		Number:   number,
		Time:     now,
	}
}

// Summary is what is kept of a stream of names: always the same few bytes,
// however long the stream is.
type Summary struct {
	Count   int64
	Sample  []string // the first different ones
	Longest int32    // in characters
}

const maxSample = 10

func (s *Summary) add(name string) {
	s.Count++
	s.Longest = max(s.Longest, int32(utf8.RuneCountInString(name)))
	if len(s.Sample) >= maxSample {
		return
	}
	for _, seen := range s.Sample {
		if seen == name {
			return
		}
	}
	s.Sample = append(s.Sample, name)
}
