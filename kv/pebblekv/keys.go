package pebblekv

import (
	"encoding/binary"
	"math"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// The tables beside those that every store has; see the package comment for the
// layout. The numbers are part of the data format.
const (
	tableRecord = ledger.TableRecord
	tableChunk  = ledger.TableChunk

	kindSummary = ledger.KindSummary
	kindRange   = 0x01 // range tombstones, by layer and start
	kindItem    = 0x02
	kindEnd     = 0x03 // above everything of the record

	maxIDLen   = math.MaxUint16
	tableLen   = pebblestore.TableLen
	headerLen  = 5 // table, partition, length of the id
	tokenIDLen = len(wal.TokenID{})
)

// recordKey returns the prefix of a record with a kind behind it, with room for
// extra more bytes.
func recordKey(p wal.Partition, id []byte, kind byte, extra int) []byte {
	k := make([]byte, 0, headerLen+len(id)+1+extra)
	k = pebblestore.AppendTable(k, tableRecord, p)
	k = binary.BigEndian.AppendUint16(k, uint16(len(id)))
	k = append(k, id...)
	return append(k, kind)
}

func appendItemKey(dst []byte, p wal.Partition, id, key []byte) []byte {
	dst = pebblestore.AppendTable(dst, tableRecord, p)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(id)))
	dst = append(dst, id...)
	dst = append(dst, kindItem)
	return append(dst, key...)
}

func chunkPrefix(p wal.Partition, id kv.UploadID) []byte {
	k := pebblestore.AppendTable(make([]byte, 0, tableLen+tokenIDLen+4), tableChunk, p)
	return append(k, id[:]...)
}

func chunkKey(p wal.Partition, id kv.UploadID, index int) []byte {
	return binary.BigEndian.AppendUint32(chunkPrefix(p, id), uint32(index))
}

// chunkSpan returns the bounds of the chunks of an upload. The end has a fifth
// index byte, above every index.
func chunkSpan(p wal.Partition, id kv.UploadID) (lo, hi []byte) {
	lo = chunkPrefix(p, id)
	hi = append(chunkPrefix(p, id), 0xff, 0xff, 0xff, 0xff, 0xff)
	return lo, hi
}
