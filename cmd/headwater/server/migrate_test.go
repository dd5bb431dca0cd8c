package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// migrates moves a namespace of stored from Pebble to another kind of store and back, while it is written:
// with the log from its beginning, and with a copy where the log has been trimmed. kind is the type of the
// store and its cluster, more what else its first one has. settled returns when all is applied.
func migrates(t *testing.T, open func(*testing.T, string) *Server, ns, kind, more string, settled func(s *Server)) {
	dir := t.TempDir()
	s := open(t, dir)
	for name, doc := range stored {
		is(t, "make "+name, applyDoc(t, s, doc))
	}
	w := &storeWrites{t: t, s: s}
	w.round()
	doc := stored[ns] + "storage:\n  - {role: PRIMARY, type: pebble}\n  - {role: SHADOW, " + kind + ", name: next, " + more + "}\n"
	is(t, "a SHADOW", applyDoc(t, s, doc))
	w.round()
	equal(t, storeOf(t, s, ns, "next", "COMPARING"))
	compared(t, s, ns, "next")
	of := func(what string) string { return fmt.Sprintf(`{"namespace":"%s",%s}`, ns, what) }
	is(t, "promote", call(t, s, "Admin.PromoteStore", of(`"store":"next"`)), "store.state", "SERVING")
	w.again("after a promote")
	w.round()
	compared(t, s, ns, "primary")
	closeServer(t, s)
	s = open(t, dir)
	w.s = s
	// What the log has and the store has not is applied first: until then a copy may seem new.
	settled(s)
	w.again("after a restart")
	w.round()
	storeOf(t, s, ns, "primary", "RETIRING")
	is(t, "roll back", call(t, s, "Admin.RollbackStore", of(`"store":"primary"`)), "store.state", "SERVING")
	w.again("after a roll back")
	compared(t, s, ns, "next")
	is(t, "promote once more", call(t, s, "Admin.PromoteStore", of(`"store":"next"`)), "store.state", "SERVING")
	is(t, "drop", call(t, s, "Admin.DropStore", of(`"store":"primary","confirm":"primary"`)))
	w.round()
	w.again("after the drop")

	// The exceptions of what was refused before are gone: a new store begins as a copy.
	x := spaceOf(t, s, ns)
	for p := range x.serving {
		if err := x.log.Trim(t.Context(), wal.Partition(p), x.store("next").savedOffset(wal.Partition(p))); err != nil {
			t.Fatal(err)
		}
	}
	for i, kind := range []string{"type: pebble", kind, kind} {
		name := fmt.Sprint("copy", i)
		r := call(t, s, "Namespace.GetNamespace", `{"namespace":"`+ns+`"}`)
		now := r.field(t, "config").(string)
		is(t, "a SHADOW from a copy", applyDoc(t, s, strings.Replace(now, "storage:\n", "storage:\n  - {role: SHADOW, "+kind+", name: "+name+"}\n", 1)))
		w.round()
		equal(t, storeOf(t, s, ns, name, "COMPARING"))
		w.round()
		compared(t, s, ns, name)
		is(t, "promote "+name, call(t, s, "Admin.PromoteStore", of(`"store":"`+name+`"`)), "store.state", "SERVING")
		w.again("after a promote of " + name)
		w.round()
	}
}
