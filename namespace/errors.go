package namespace

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What can go wrong. Each may be wrapped; use errors.Is. Errors of package wal
// come through wrapped, so that errors.Is finds those too.
var (
	// ErrInvalid: the document is not valid; an *InvalidError says where. Nothing
	// was changed.
	ErrInvalid = errors.New("namespace document is not valid")
	// ErrConflict: another version is current than the change was based on; a
	// *ConflictError says which. Nothing was changed.
	ErrConflict = errors.New("namespace was changed by someone else")
	// ErrNotLive: the change cannot be made to a namespace that exists; a
	// *NotLiveError says how else. Nothing was changed.
	ErrNotLive = errors.New("the change cannot be made to a live namespace")
	// ErrNotFound: no such namespace, or no such version of it.
	ErrNotFound = errors.New("namespace not found")
	// ErrOwned: the data directory does not own the namespace; an *OwnedError says
	// who does.
	ErrOwned = errors.New("namespace is not owned by this data directory")
	// ErrReleased: the data directory owned the namespace until it was released; an
	// *OwnedError says when. Such an error is ErrOwned as well.
	ErrReleased = errors.New("data directory was released as the home of the namespace")
	// ErrNoOwner: there is nobody to release the namespace from.
	ErrNoOwner = errors.New("namespace has no home")
	// ErrNotReleased: the data directory was not the last home, or is not released.
	ErrNotReleased = errors.New("data directory is not the one that was released last")
	// ErrConfirm: the confirmation of a delete or release is not the name.
	ErrConfirm = errors.New("confirmation does not match the namespace's name")
	// ErrLimit: the registry holds as many namespaces, or as many versions of
	// one, as it takes. Nothing was changed.
	ErrLimit = errors.New("namespace registry is at its limit")
	// ErrUnknownOutcome: the change may have been made, or may come to be. Sending
	// it again with the same base version is safe: it cannot be made twice.
	ErrUnknownOutcome = errors.New("outcome of the namespace change is unknown")
	// ErrStopped: the registry met a record that it cannot read, or its log is
	// gone. What it knew it still answers; it takes no changes.
	ErrStopped = errors.New("namespace registry has stopped")
	// ErrClosed: used after Close.
	ErrClosed = errors.New("namespace registry is closed")
	// ErrAhead: a watch asked for a version that the registry has not reached.
	ErrAhead = errors.New("version is beyond the registry's end")
	// ErrMalformed: bytes handed to a decoder are not a change that this build
	// knows.
	ErrMalformed = errors.New("malformed namespace record")
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Line int // from 1; 0 when the whole document is meant
	// Path is dotted, list elements by index: "storage[0].type". Empty when the
	// whole document is meant.
	Path   string
	Reason string
	// Suggestion is what was probably meant, empty when there is no telling.
	Suggestion string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Reason)
	if p.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %s?", p.Suggestion)
	}
	return b.String()
}

// InvalidError lists everything that is wrong with a document, in order of
// line. errors.Is(err, ErrInvalid).
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return ErrInvalid.Error() + ": " + strings.Join(parts, " | ")
}

// Is makes errors.Is(err, ErrInvalid) hold.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// ConflictError says what is current. errors.Is(err, ErrConflict).
type ConflictError struct {
	Name    string
	Base    uint64 // that the change was based on
	Current uint64 // 0: the namespace does not exist
}

func (e *ConflictError) Error() string {
	if e.Current == 0 {
		return fmt.Sprintf("%v: %s: the change was based on version %d, and the namespace does not exist", ErrConflict, e.Name, e.Base)
	}
	return fmt.Sprintf("%v: %s: the change was based on version %d, version %d is current", ErrConflict, e.Name, e.Base, e.Current)
}

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// NotLiveError says which settings stand in the way and what to do instead.
// errors.Is(err, ErrNotLive).
type NotLiveError struct {
	Name    string
	Changes []Change // those that cannot be made; Change.NotLive is the way
}

func (e *NotLiveError) Error() string {
	parts := make([]string, len(e.Changes))
	for i, c := range e.Changes {
		parts[i] = fmt.Sprintf("%s from %s to %s: %s", c.Path, c.From, c.To, c.NotLive)
	}
	return fmt.Sprintf("%v: %s: %s", ErrNotLive, e.Name, strings.Join(parts, " | "))
}

// Is makes errors.Is(err, ErrNotLive) hold.
func (e *NotLiveError) Is(target error) bool { return target == ErrNotLive }

// OwnedError names the owner. errors.Is(err, ErrOwned).
type OwnedError struct {
	Name  string
	Owner string // id of the data directory; empty when nobody owns it
	// Released is set when the directory that asked was the owner before.
	Released *Release
}

func (e *OwnedError) Error() string {
	now := fmt.Sprintf("it belongs to data directory %s", e.Owner)
	if e.Owner == "" {
		now = "no other data directory is its home yet"
	}
	if rel := e.Released; rel != nil {
		by := ""
		if rel.By != "" {
			by = " by " + rel.By
		}
		return fmt.Sprintf("%v: %s: since %s%s; %s", ErrReleased, e.Name, rel.At.Format(time.RFC3339), by, now)
	}
	return fmt.Sprintf("%v: %s: %s", ErrOwned, e.Name, now)
}

// Is makes errors.Is(err, ErrOwned) hold, and errors.Is(err, ErrReleased) for a
// directory that was released.
func (e *OwnedError) Is(target error) bool {
	return target == ErrOwned || target == ErrReleased && e.Released != nil
}
