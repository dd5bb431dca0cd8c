package gateway

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// bootstrap builds a copy of a namespace as an index or a change feed would: from
// a scan, and then from the log behind it. between runs after each page.
func bootstrap(t *testing.T, r *room, req *headwaterv1.ScanItemsRequest, between func(page int)) map[string]string {
	t.Helper()
	copied := map[string]string{}
	var asOf *headwaterv1.AsOf
	for page := 1; ; page++ {
		res, err := r.kv.ScanItems(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range res.GetRecords() {
			for _, it := range rec.GetItems() {
				copied[rec.GetId()] = string(it.GetValue())
			}
		}
		asOf = res.GetAsOf()
		between(page)
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	r.afterRead = nil
	changes, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: req.GetNamespace(), From: fromPosition(asOf.GetPosition())})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range changes {
		res, err := r.kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{Namespace: req.GetNamespace(), Id: m.GetKey()})
		if err != nil {
			t.Fatal(err)
		}
		copied[m.GetKey()] = string(res.GetItems()[0].GetValue())
	}
	return copied
}

// TestAScanAndTheLogBehindItAreEverything: what is written while a namespace is
// scanned is on the pages or in the log behind the last page's as_of, whichever
// partition it is in and however many pages there are.
func TestAScanAndTheLogBehindItAreEverything(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{MinPageBytes, MaxPageBytes} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			ns := r.open("plays", "abstraction: kv\n")
			want := map[string]string{}
			write := func(id, value string) {
				want[id] = value
				r.put("plays", id, "k", value)
			}
			// All of one partition, so that the others are empty as they are scanned.
			first := ns.Stream.PartitionOf([]byte("r0"))
			for i := range 100 {
				if id := fmt.Sprint("r", i); ns.Stream.PartitionOf([]byte(id)) == first {
					write(id, "before")
				}
			}
			ids := slices.Sorted(maps.Keys(want))
			n := 0
			pages := 0
			during := func() {
				for _, id := range ids { // also those that were read already
					write(id, fmt.Sprint("during ", n))
				}
				write(fmt.Sprint("new", n), "new") // of any partition
				n++
			}
			r.afterRead = during
			got := bootstrap(t, r, &headwaterv1.ScanItemsRequest{Namespace: "plays", PageSizeBytes: &size}, func(page int) { pages = page })
			if !maps.Equal(got, want) {
				t.Errorf("%d pages: the copy has %v\nthe namespace %v", pages, got, want)
			}
			if size == MinPageBytes && pages < 3 {
				t.Errorf("only %d pages", pages)
			}
		})
	}
}

// TestPagesOfARecordAndTheLogBehindThemAreEverything: what is written to a record
// while its pages are read is on them or in the log behind the last one's as_of.
func TestPagesOfARecordAndTheLogBehindThemAreEverything(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\n")
	for i := range 30 {
		r.put("plays", "id", fmt.Sprintf("k%02d", i), "before")
	}
	req := &headwaterv1.GetItemsRequest{Namespace: "plays", Id: "id", Selection: &headwaterv1.Selection{PageSizeBytes: proto.Int64(MinPageBytes)}}
	pages := 0
	r.afterRead = func() { r.put("plays", "id", "k00", fmt.Sprint("during ", pages)) }
	for {
		pages++
		res, err := r.kv.GetItems(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken != "" {
			continue
		}
		changes, err := r.readLog(&headwaterv1.ReadLogRequest{Namespace: "plays", From: fromPosition(res.GetAsOf().GetPosition())})
		if err != nil {
			t.Fatal(err)
		}
		if pages < 2 || len(changes) != pages {
			t.Errorf("%d pages and %d changes behind them, of which each page had one", pages, len(changes))
		}
		return
	}
}
