package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// SendHeader is what tells a follower that it is served.
func (l *lines) SendHeader(metadata.MD) error { return nil }

// say writes a message and returns its position.
func (r *room) say(namespace, key, payload string) string {
	r.t.Helper()
	res, err := r.log.WriteToLog(r.t.Context(), &headwaterv1.WriteToLogRequest{Namespace: namespace, Key: key, Payload: []byte(payload)})
	if err != nil || res.GetDurable() != headwaterv1.WriteToLogResponse_SUCCEEDED {
		r.t.Fatal(res, err)
	}
	for at := r.broker.Now(); !r.broker.Now().After(at); { // no two messages of one microsecond
	}
	return res.GetResult().GetPosition()
}

// heard is the payloads that a read of a log sends, in the order of their text:
// the partitions are side by side.
func heard(t *testing.T, messages []*headwaterv1.ReadLogResponse, err error) string {
	t.Helper()
	if err != nil {
		return reasonOf(err)
	}
	var out []string
	for _, m := range messages {
		out = append(out, string(m.GetPayload()))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestAReadOfTheLogBeginsWhereItIsTold: from a position, the partitions that it
// names behind it, and the others with what was appended since.
func TestAReadOfTheLogBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	ns := r.open("words", "abstraction: log\nlog: { partitions: 3 }\n")
	r.open("other", "abstraction: log\n")
	// A key of each partition.
	keys := make([]string, 3)
	for i := 0; slices.Contains(keys, ""); i++ {
		k := fmt.Sprint("key", i)
		keys[ns.Stream.PartitionOf([]byte(k))] = k
	}
	read := func(from *headwaterv1.LogStart) string {
		t.Helper()
		m, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: "words", From: from})
		return heard(t, m, err)
	}
	position := func(p string) string { t.Helper(); return read(fromPosition(p)) }

	at := []string{r.say("words", keys[0], "a"), r.say("words", keys[1], "b"), r.say("words", keys[0], "c"), r.say("words", keys[2], "d")}
	between := time.UnixMicro(r.broker.Now().UnixMicro() + 1)
	at = append(at, r.say("words", keys[1], "e"))
	for i, want := range []string{"b c d e", "c d e", "d e", "e", ""} {
		if got := position(at[i]); got != want {
			t.Errorf("behind message %d: %q, want %q", i, got, want)
		}
	}
	// Of several positions that were merged: the newest of its records counts for the
	// partitions that it does not name.
	several, err := ns.Stream.MergeAfter([]string{at[0], at[1]})
	if err != nil {
		t.Fatal(err)
	}
	if got := position(several.String()); got != "c d e" {
		t.Errorf("behind a and b: %q", got)
	}
	// A position names a partition in which nothing was applied.
	empty := wal.Position{Namespace: "words", Incarnation: ns.Stream.Info().Incarnation, Offsets: map[wal.Partition]wal.Offset{0: wal.NoOffset}}
	if got := position(empty.String()); got != "a b c d e" {
		t.Errorf("from the beginning of partition 0, which tells nothing of the others: %q", got)
	}
	// Each message's own position goes on behind all that was sent.
	all, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: "words", From: fromPosition(empty.String())})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		var rest []string
		for _, x := range all[i+1:] {
			rest = append(rest, string(x.GetPayload()))
		}
		slices.Sort(rest)
		if got := position(m.GetPosition()); got != strings.Join(rest, " ") {
			t.Errorf("behind %q, as the %d. message: %q, want %v", m.GetPayload(), i, got, rest)
		}
	}
	// What a filter leaves out is behind the position too.
	one, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: "words", From: fromPosition(empty.String()), Filter: &headwaterv1.LogFilter{Key: &keys[2]}})
	if err != nil || len(one) != 1 || string(one[0].GetPayload()) != "d" {
		t.Errorf("one key: %v, %v", one, err)
	}
	for what, c := range map[string]struct {
		from *headwaterv1.LogStart
		want string
	}{
		"earliest":     {&headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{}}, "a b c d e"},
		"latest":       {&headwaterv1.LogStart{Start: &headwaterv1.LogStart_Latest_{}}, ""},
		"a time":       {&headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: timestamppb.New(between)}}, "e"},
		"an old time":  {&headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: &timestamppb.Timestamp{}}}, "a b c d e"},
		"no time":      {&headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: &timestamppb.Timestamp{Nanos: -1}}}, apierrors.BadLogStart},
		"nothing":      {nil, apierrors.BadLogStart},
		"none of them": {&headwaterv1.LogStart{}, apierrors.BadLogStart},
		"empty":        {fromPosition(""), apierrors.BadPosition},
		"malformed":    {fromPosition("x"), apierrors.BadPosition},
		"cut":          {fromPosition(at[0][1:]), apierrors.BadPosition},
		"elsewhere":    {fromPosition(r.say("other", "k", "v")), apierrors.BadPosition},
		"no partition": {fromPosition(wal.Position{Namespace: "words", Incarnation: ns.Stream.Info().Incarnation}.String()), apierrors.BadPosition},
		"former life":  {fromPosition(wal.NewPosition("words", wal.Incarnation{1}, 0, 0).String()), apierrors.OtherIncarnation},
		"no such one":  {fromPosition(wal.NewPosition("words", ns.Stream.Info().Incarnation, 3, 0).String()), apierrors.BadPosition},
		"beyond end":   {fromPosition(wal.NewPosition("words", ns.Stream.Info().Incarnation, 0, 2).String()), apierrors.BeyondEnd},
	} {
		m, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: "words", From: c.from})
		if got := heard(t, m, err); got != c.want {
			t.Errorf("from %s: %q, %v; want %q", what, got, err, c.want)
		}
		if e := apierrors.From(err); err != nil && c.want != apierrors.OtherIncarnation && e.Code != codes.InvalidArgument && e.Code != codes.OutOfRange {
			t.Errorf("from %s: %v", what, e.Code)
		}
	}
	// What is trimmed.
	if err := ns.Stream.Log().Trim(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	if got := position(at[0]); got != "b c d e" {
		t.Errorf("behind a, which is trimmed, so that nobody knows its time: %q", got)
	}
	if err := ns.Stream.Log().Trim(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
	if got := position(at[0]); got != apierrors.Trimmed {
		t.Errorf("behind a, with c trimmed: %q", got)
	}
	if got := position(at[2]); got != "b d e" {
		t.Errorf("behind c, which is trimmed: %q", got)
	}
}
