package clickhousets

import (
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/headwater-db/headwater/timeseries"
)

// mapped are the items of one type, row by row, as a column of maps takes them.
func mapped(rows []rowItems, kind timeseries.ValueKind) []column.IterableOrderedMap {
	out := make([]column.IterableOrderedMap, len(rows))
	for i := range rows {
		out[i] = &oneKind{rows[i], kind}
	}
	return out
}

// oneKind is the items of a row that have one type, as a map of a column.
type oneKind struct {
	items rowItems
	kind  timeseries.ValueKind
}

// Put implements column.IterableOrderedMap; it is not read into.
func (*oneKind) Put(any, any) {}

// Iterator implements column.IterableOrderedMap.
func (m *oneKind) Iterator() column.MapIterator { return &kindIterator{m: m, at: -1} }

type kindIterator struct {
	m  *oneKind
	at int
}

func (it *kindIterator) Next() bool {
	for it.at++; it.at < len(it.m.items); it.at++ {
		if it.m.items[it.at].Value.Kind == it.m.kind {
			return true
		}
	}
	return false
}

func (it *kindIterator) Key() any { return string(it.m.items[it.at].Key) }

func (it *kindIterator) Value() any {
	switch v := &it.m.items[it.at].Value; v.Kind {
	case timeseries.Int:
		return v.Int
	case timeseries.Double:
		return v.Double
	default:
		return string(v.Text)
	}
}
