package proof

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// countInput is an operation on one counter.
type countInput struct {
	kind           string // "read", "add", "get", "clear", "reserve", "settle", "cancel"
	delta          int64
	floor, ceiling int64 // of "get"
	saturate       bool
	n              int // the reservation, by its number
	amount         int64
}

type countOutput struct {
	outcome              outcome
	value, held, applied int64
	id                   string // of a reservation, which the checker does not look at
}

// countState is a counter to the checker. Reservations are a text, so that two
// states compare: "3=5 7=1" holds 5 under number 3 and 1 under number 7, "7!" was
// settled.
type countState struct {
	value, held  int64
	reservations string
}

func (s *countState) find(n int) (amount int64, settled, ok bool) {
	for word := range strings.FieldsSeq(s.reservations) {
		var m int
		if _, err := fmt.Sscanf(word, "%d=%d", &m, &amount); err == nil && m == n {
			return amount, false, true
		}
		if word == fmt.Sprintf("%d!", n) {
			return 0, true, true
		}
	}
	return 0, false, false
}

// with replaces what is known of a reservation; empty forgets it.
func (s *countState) with(n int, word string) {
	words := slices.DeleteFunc(strings.Fields(s.reservations), func(w string) bool {
		return strings.HasPrefix(w, fmt.Sprintf("%d=", n)) || w == fmt.Sprintf("%d!", n)
	})
	if word != "" {
		words = append(words, word)
	}
	slices.Sort(words)
	s.reservations = strings.Join(words, " ")
}

// after is what an operation does to a state; ok false: it is refused. tells: the
// answer tells value and held.
func (in *countInput) after(s countState) (next countState, applied int64, tells, ok bool) {
	next = s
	switch in.kind {
	case "read":
		return next, 0, true, true
	case "add":
		next.value += in.delta
		return next, 0, false, true
	case "clear":
		next.value = 0
		return next, 0, false, true
	case "get":
		to := s.value + in.delta
		switch {
		case in.delta > 0 && to > in.ceiling:
			if to = s.value; in.saturate {
				to = max(s.value, in.ceiling)
			}
		case in.delta < 0 && to < in.floor:
			if to = s.value; in.saturate {
				to = min(s.value, in.floor)
			}
		}
		next.value = to
		return next, to - s.value, true, true
	case "reserve":
		if in.amount > s.value-s.held {
			return next, 0, true, false
		}
		next.held += in.amount
		next.with(in.n, fmt.Sprintf("%d=%d", in.n, in.amount))
		return next, 0, true, true
	}
	amount, settled, held := s.find(in.n)
	switch {
	case in.kind == "cancel" && settled, in.kind == "settle" && (!held || settled || in.amount > amount):
		return next, 0, true, false
	case in.kind == "cancel":
		next.held -= amount
		next.with(in.n, "")
	default:
		next.held -= amount
		next.value -= in.amount
		next.with(in.n, fmt.Sprintf("%d!", in.n))
	}
	return next, 0, true, true
}

// countModel is a counter that one caller at a time asks. An operation whose
// outcome nobody learnt took place or did not.
var countModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{countState{}} },
	Step: func(state, input, output any) []any {
		s, in, out := state.(countState), input.(countInput), output.(countOutput)
		next, applied, tells, ok := in.after(s)
		switch out.outcome {
		case acked:
			if !ok || tells && (out.value != next.value || out.held != next.held) || in.kind == "get" && out.applied != applied {
				return nil
			}
			return []any{next}
		case refused:
			if ok {
				return nil
			}
			return []any{s}
		}
		if ok && next != s {
			return []any{s, next}
		}
		return []any{s}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// TestCountModel keeps the checker honest: it takes what may happen, and not what
// may not.
func TestCountModel(t *testing.T) {
	op := func(call, end int64, in countInput, out countOutput) porcupine.Operation {
		out.outcome = max(out.outcome, acked)
		return porcupine.Operation{ClientId: int(call), Input: in, Call: call, Output: out, Return: end}
	}
	add := op(0, 1, countInput{kind: "add", delta: 10}, countOutput{})
	reserve := op(2, 3, countInput{kind: "reserve", n: 1, amount: 8}, countOutput{value: 10, held: 8})
	for what, c := range map[string]struct {
		ops  []porcupine.Operation
		good bool
	}{
		"read what was added":        {[]porcupine.Operation{add, op(2, 3, countInput{kind: "read"}, countOutput{value: 10})}, true},
		"read before it":             {[]porcupine.Operation{add, op(2, 3, countInput{kind: "read"}, countOutput{value: 0})}, false},
		"read beside it":             {[]porcupine.Operation{add, op(0, 3, countInput{kind: "read"}, countOutput{value: 0})}, true},
		"add twice":                  {[]porcupine.Operation{add, op(2, 3, countInput{kind: "read"}, countOutput{value: 20})}, false},
		"reserve":                    {[]porcupine.Operation{add, reserve}, true},
		"reserve twice what is left": {[]porcupine.Operation{add, reserve, op(4, 5, countInput{kind: "reserve", n: 2, amount: 3}, countOutput{value: 10, held: 11})}, false},
		"refused what is there":      {[]porcupine.Operation{add, reserve, op(4, 5, countInput{kind: "reserve", n: 2, amount: 2}, countOutput{outcome: refused})}, false},
		"refused what is not":        {[]porcupine.Operation{add, reserve, op(4, 5, countInput{kind: "reserve", n: 2, amount: 3}, countOutput{outcome: refused})}, true},
		"settle":                     {[]porcupine.Operation{add, reserve, op(4, 5, countInput{kind: "settle", n: 1, amount: 3}, countOutput{value: 7})}, true},
		"settle twice": {[]porcupine.Operation{
			add, reserve, op(4, 5, countInput{kind: "settle", n: 1, amount: 3}, countOutput{value: 7}), op(6, 7, countInput{kind: "settle", n: 1, amount: 3}, countOutput{value: 4}),
		}, false},
		"cancel": {[]porcupine.Operation{add, reserve, op(4, 5, countInput{kind: "cancel", n: 1}, countOutput{value: 10})}, true},
		"saturate": {[]porcupine.Operation{
			add, op(2, 3, countInput{kind: "get", delta: 10, floor: 0, ceiling: 12, saturate: true}, countOutput{value: 12, applied: 2}),
		}, true},
		"pass a ceiling": {[]porcupine.Operation{
			add, op(2, 3, countInput{kind: "get", delta: 10, floor: 0, ceiling: 12}, countOutput{value: 20, applied: 10}),
		}, false},
		"lose": {[]porcupine.Operation{add, op(2, 3, countInput{kind: "clear"}, countOutput{}), op(4, 5, countInput{kind: "read"}, countOutput{value: 10})}, false},
	} {
		m := countModel.ToModel()
		want := porcupine.Illegal
		if c.good {
			want = porcupine.Ok
		}
		if got := porcupine.CheckOperationsTimeout(m, c.ops, time.Minute); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}
