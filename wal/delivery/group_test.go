package delivery

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestFormatOfAGroup: bytes of it are in logs.
func TestFormatOfAGroup(t *testing.T) {
	t.Parallel()
	g := &Group{Mutations: 3, Parts: []GroupPart{{"a", wal.Incarnation{1, 15: 2}, []byte("rec")}, {"bc", wal.Incarnation{3}, nil}}}
	const want = "01" +
		"0a1a" + "0a0161" + "121001000000000000000000000000000002" + "1a03726563" +
		"0a18" + "0a026263" + "121003000000000000000000000000000000" + "1a00" +
		"120400000003"
	if got := hex.EncodeToString(g.Encode()); got != want {
		t.Errorf("bytes are\n%s, want\n%s", got, want)
	}
	back, err := DecodeGroup(g.Encode())
	if err != nil || back.Mutations != 3 || len(back.Parts) != 2 || !reflect.DeepEqual(back.Parts[0], g.Parts[0]) {
		t.Errorf("read back as %v, %v", back, err)
	}
	for b, want := range map[string]error{
		"": wal.ErrUnknownVersion, "\x02": wal.ErrUnknownVersion, "\x01": wal.ErrMalformed, "\x01\x0a": wal.ErrMalformed,
		"\x01\x1a\x00": wal.ErrUnknownVersion, "\x01\x0a\x02\x22\x00": wal.ErrUnknownVersion, "\x01\x0a\x03\x12\x01\x00": wal.ErrUnknownVersion,
	} {
		if _, err := DecodeGroup([]byte(b)); !errors.Is(err, want) {
			t.Errorf("%x is read with %v, want %v", b, err, want)
		}
	}
}

// TestPartsHavePlacesOfTheirOwn between those of the groups before and behind.
func TestPartsHavePlacesOfTheirOwn(t *testing.T) {
	t.Parallel()
	g := &Group{}
	last := g.Place(wal.SourcePlace{At: 5, Offset: 7}, MaxGroupParts-1)
	if first := g.Place(wal.SourcePlace{At: 5, Offset: 8}, 0); last.Compare(first) >= 0 || last.Compare(g.Place(wal.SourcePlace{At: 5, Offset: 7}, 0)) <= 0 {
		t.Errorf("the last part of a group is at %v, the first of the next at %v", last, first)
	}
}
