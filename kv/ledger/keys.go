package ledger

import (
	"encoding/binary"
	"errors"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// The tables beside those that every store has; package pebblekv has the layout. The numbers are
// part of the data format. TableRecord and TableChunk are of a store that has its items here.
const (
	TableUpload = 'u'
	TableRecord = 'r'
	TableChunk  = 'c'

	KindSummary = 0x00 // of a record: what tombstones it has

	recordHeaderLen = pebblestore.TableLen + 2 // table, partition, length of the id
)

var errBadKey = errors.New("key of no known form")

// SplitRecordKey returns the parts of a key of the record table.
func SplitRecordKey(k []byte) (id []byte, kind byte, rest []byte, err error) {
	return SplitKey(TableRecord, k)
}

// SplitKey returns the parts of a key of a table whose keys are as those of records.
func SplitKey(table byte, k []byte) (id []byte, kind byte, rest []byte, err error) {
	if len(k) < recordHeaderLen+1 || k[0] != table {
		return nil, 0, nil, errBadKey
	}
	n := int(binary.BigEndian.Uint16(k[pebblestore.TableLen:]))
	if len(k) < recordHeaderLen+n+1 {
		return nil, 0, nil, errBadKey
	}
	return k[recordHeaderLen : recordHeaderLen+n], k[recordHeaderLen+n], k[recordHeaderLen+n+1:], nil
}

// UploadKey is the key of an upload.
func UploadKey(p wal.Partition, id kv.UploadID) []byte {
	k := pebblestore.AppendTable(make([]byte, 0, pebblestore.TableLen+len(id)), TableUpload, p)
	return append(k, id[:]...)
}
