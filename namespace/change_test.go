package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

// goldenChanges are records as they must be readable for ever.
func goldenChanges() []*change {
	kv := &Config{}
	*kv = *newConfig(Defaults{Partitions: 4})
	kv.Name, kv.Abstraction, kv.Description, kv.Owners = "plays", KV, "a <b> & c", []string{"team@example.com"}
	kv.Storage = []StoreConfig{{Role: "PRIMARY", Type: "pebble"}}
	kv.KV = KVConfig{Descending: true, DefaultTTL: 1e9, ChunkThreshold: 1 << 20}
	kv.SLO = SLO{Read: Objective{Target: 1e6, Max: 2e6}, Write: Objective{Target: 3e6, Max: 4e6}}
	log := &Config{}
	*log = *newConfig(Defaults{Partitions: 12})
	log.Name, log.Abstraction = "l", Log
	for _, c := range []*Config{kv, log} {
		c.Tokens.MaxLive = 5_000_000
	}
	inc := wal.Incarnation{0, 1, 2, 0xfe, 0xff}.String()
	return []*change{
		{Op: opApply, Name: "plays", Generation: 1, Incarnation: inc, Document: "namespace: plays\nabstraction: kv\n", Config: kv, By: "me"},
		{Op: opApply, Name: "l", BaseVersion: 7, Generation: 3, Incarnation: inc, Document: "namespace: l\nabstraction: log\n", Config: log},
		{Op: opDelete, Name: "plays", BaseVersion: 9, Generation: 1, By: "me"},
		{Op: opOwner, Name: "plays", Generation: 1, Owner: "dir-1"},
		{Op: opOwner, Name: "plays", BaseVersion: 12, Generation: 1, OwnerBefore: "dir-1", By: "me"},
		{Op: opOwner, Name: "plays", BaseVersion: 14, Generation: 1, Owner: "dir-2"},
	}
}

func TestChangesKeepTheirBytes(t *testing.T) {
	t.Parallel()
	const file = "testdata/change_v1.txt"
	var now bytes.Buffer
	for _, c := range goldenChanges() {
		b, err := encodeChange(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&now, "%02x %s\n", b[0], b[1:])
	}
	if *update {
		if err := os.WriteFile(file, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, now.Bytes()) {
		t.Errorf("records are written otherwise:\n%s\nthan before:\n%s", now.Bytes(), golden)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(golden), "\n"), "\n") {
		c, err := decodeChange([]byte("\x01" + line[3:]))
		if err != nil || !reflect.DeepEqual(c, goldenChanges()[i]) {
			t.Errorf("record %d reads as %+v, %v", i, c, err)
		}
	}
}

func TestMalformedChangesAreRefused(t *testing.T) {
	t.Parallel()
	golden := goldenChanges()
	for name, spoil := range map[string]func(c *change){
		"no operation":             func(c *change) { c.Op = "" },
		"another operation":        func(c *change) { c.Op = "rename" },
		"no name":                  func(c *change) { c.Name = "" },
		"a name that is a path":    func(c *change) { c.Name = "../a" },
		"no generation":            func(c *change) { c.Generation = 0 },
		"no configuration":         func(c *change) { c.Config = nil },
		"configuration of another": func(c *change) { c.Name = "other" },
		"no incarnation":           func(c *change) { c.Incarnation = "" },
		"half an incarnation":      func(c *change) { c.Incarnation = c.Incarnation[:30] },
		"an owner":                 func(c *change) { c.Owner = "x" },
		"a delete with a document": func(c *change) { c.Op = opDelete; c.BaseVersion = 1 },
	} {
		c := *golden[0]
		spoil(&c)
		b, err := encodeChange(&c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeChange(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]*change{
		"an owner that does not change": {Op: opOwner, Name: "a", Generation: 1, BaseVersion: 1, OwnerBefore: "x", Owner: "x"},
		"an owner since no version":     {Op: opOwner, Name: "a", Generation: 1, OwnerBefore: "x"},
		"an owner with a configuration": {Op: opOwner, Name: "a", Generation: 1, Owner: "x", Config: golden[0].Config},
	} {
		b, err := encodeChange(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeChange(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := encodeChange(golden[2])
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		if _, err := decodeChange(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of %d: %v", i, len(b), err)
		}
	}
	if _, err := decodeChange(append(b, '{')); !errors.Is(err, ErrMalformed) {
		t.Errorf("trailing bytes: %v", err)
	}
}

func FuzzDecodeChange(f *testing.F) {
	for _, c := range goldenChanges() {
		b, err := encodeChange(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeChange(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		b2, err := encodeChange(c)
		if err != nil {
			t.Fatal(err)
		}
		c2, err := decodeChange(b2)
		if err != nil {
			t.Fatalf("%v\n%s", err, b2)
		}
		b3, err := encodeChange(c2)
		if err != nil || !bytes.Equal(b2, b3) {
			t.Fatalf("%s\n%s\n%v", b2, b3, err)
		}
		newState(DefaultTopicPrefix).apply(c, 0, 0) // any change that decodes can be applied
	})
}

func createChange(name string, generation uint64) *change {
	c := *newConfig(Defaults{})
	c.Name, c.Abstraction = name, Log
	return &change{Op: opApply, Name: name, Generation: generation, Incarnation: wal.Incarnation{1}.String(), Config: &c}
}

func TestTheLimitsAreDecidedByTheLog(t *testing.T) {
	t.Parallel()
	s := newState(DefaultTopicPrefix)
	o := wal.Offset(0)
	apply := func(c *change) verdict { o++; return s.apply(c, o-1, 0) }
	for i := range MaxNamespaces {
		if v := apply(createChange(fmt.Sprintf("n%d", i), 1)); !v.accepted {
			t.Fatalf("namespace %d: %+v", i, v)
		}
	}
	if v := apply(createChange("more", 1)); v.accepted || !errors.Is(v.err, ErrLimit) {
		t.Fatalf("one more: %+v", v)
	}
	if v := apply(&change{Op: opDelete, Name: "n5", BaseVersion: 6, Generation: 1}); !v.accepted {
		t.Fatalf("delete: %+v", v)
	}
	if v := apply(createChange("more", 1)); !v.accepted {
		t.Fatalf("one in the place of another: %+v", v)
	}
	for i := range MaxVersions {
		c := createChange("more", 1)
		c.BaseVersion = s.names["more"].Version
		if v := apply(c); v.accepted != (i < MaxVersions-1) || !v.accepted && !errors.Is(v.err, ErrLimit) {
			t.Fatalf("version %d: %+v", i+2, v)
		}
	}
}

func TestAGenerationIsNotTakenTwice(t *testing.T) {
	t.Parallel()
	s := newState(DefaultTopicPrefix)
	steps := []struct {
		c        *change
		accepted bool
	}{
		{createChange("a", 3), true},  // 1
		{createChange("a", 4), false}, // 2: it exists
		{&change{Op: opDelete, Name: "a", BaseVersion: 1, Generation: 2}, false}, // 3: another life
		{&change{Op: opOwner, Name: "a", Generation: 2, Owner: "x"}, false},      // 4
		{&change{Op: opOwner, Name: "a", Generation: 3, Owner: "x"}, true},       // 5
		{&change{Op: opOwner, Name: "a", Generation: 3, Owner: "y"}, false},      // 6
		{&change{Op: opDelete, Name: "a", BaseVersion: 2, Generation: 3}, false}, // 7: another version
		{&change{Op: opDelete, Name: "a", BaseVersion: 1, Generation: 3}, true},  // 8
		{&change{Op: opDelete, Name: "a", BaseVersion: 1, Generation: 3}, false}, // 9
		{&change{Op: opOwner, Name: "a", Generation: 3, Owner: "y"}, false},      // 10
		{createChange("a", 3), false},                                            // 11: a late copy
		{createChange("a", 2), false},                                            // 12
		{createChange("a", 4), true},                                             // 13
	}
	for i, step := range steps {
		if v := s.apply(step.c, wal.Offset(i), 0); v.accepted != step.accepted || v.accepted && v.version != uint64(i)+1 {
			t.Fatalf("step %d: %+v", i+1, v)
		}
	}
	other := createChange("a", 4)
	other.BaseVersion = 13
	for name, spoil := range map[string]func(c *change){
		"incarnation": func(c *change) { c.Incarnation = wal.Incarnation{2}.String() },
		"partitions":  func(c *change) { c.Config.Partitions++ },
		"abstraction": func(c *change) { c.Config.Abstraction = KV },
	} {
		c, cfg := *other, *other.Config
		c.Config = &cfg
		spoil(&c)
		if v := s.apply(&c, 20, 0); v.accepted {
			t.Errorf("another %s of the same life was accepted", name)
		}
	}
	if snap := s.snapshot(nil); !snap.garbage("headwater.kv.a.4") || snap.garbage("headwater.log.a.4") || snap.garbage("headwater.dlq.a.4") ||
		!snap.garbage("headwater.log.a.3") || snap.garbage("headwater.log.a.5") || snap.garbage(SystemTopic) || snap.garbage("other.log.a.3") {
		t.Error("garbage is told wrongly")
	}
}

// TestSnapshotsDoNotChange holds every snapshot and entry of a random history
// and looks at them again at its end.
func TestSnapshotsDoNotChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newState(DefaultTopicPrefix)
		var snaps []*snapshot
		var seen []string
		show := func(n *snapshot) string {
			var b strings.Builder
			for _, e := range n.after(0) {
				fmt.Fprintf(&b, "%s %d %d %q %+v", e.Name, e.Version, e.Entry.Generation, e.Entry.Owner, e.Entry.releases)
				for _, c := range e.Entry.recent {
					fmt.Fprintf(&b, " %d", c.Version)
				}
				fmt.Fprintln(&b, e.Entry.accepted)
			}
			return b.String()
		}
		snap := s.snapshot(nil)
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
			c := createChange(name, lastGeneration(s.names, s.dead, name)+1)
			if cur := s.names[name]; cur != nil {
				c.BaseVersion, c.Generation = cur.Version, cur.Generation
				switch rapid.IntRange(0, 5).Draw(t, "op") {
				case 0:
					c = &change{Op: opDelete, Name: name, BaseVersion: cur.Version, Generation: cur.Generation}
				case 1:
					to := rapid.SampledFrom([]string{"", "x", "y", "z"}).Filter(func(id string) bool { return id != cur.Owner }).Draw(t, "owner")
					c = &change{Op: opOwner, Name: name, Generation: cur.Generation, BaseVersion: cur.OwnerVersion, OwnerBefore: cur.Owner, Owner: to}
				}
			}
			if v := s.apply(c, wal.Offset(i), 0); !v.accepted {
				t.Fatalf("step %d: %+v", i, v)
			}
			snap = s.snapshot(snap)
			snaps, seen = append(snaps, snap), append(seen, show(snap))
		}
		for i, n := range snaps {
			if now := show(n); now != seen[i] {
				t.Fatalf("snapshot %d was\n%sand is\n%s", i, seen[i], now)
			}
		}
	})
}

func TestAnEntryKeepsItsVersionsWhenOldOnesGo(t *testing.T) {
	t.Parallel()
	s := newState(DefaultTopicPrefix)
	s.apply(createChange("a", 1), 0, 0)
	var entries []*Entry
	for o := wal.Offset(1); o < 5*recentVersions; o++ {
		entries = append(entries, s.names["a"])
		c := createChange("a", 1)
		c.BaseVersion = uint64(o)
		if v := s.apply(c, o, 0); !v.accepted {
			t.Fatalf("%+v", v)
		}
	}
	for _, e := range entries {
		if n := len(e.recent); n == 0 || n > 2*recentVersions {
			t.Fatalf("version %d keeps %d configurations", e.Version, n)
		}
		for i, c := range e.recent {
			if want := e.Version - uint64(len(e.recent)-1-i); c.Version != want || e.accepted[want-1] != want {
				t.Fatalf("of version %d: version %d stands in the place of %d", e.Version, c.Version, want)
			}
		}
	}
}
