package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/headwater-db/headwater/wal"
)

// The key space. Every family has its own first byte; see the package comment.
const (
	familyMeta   = 'm'
	familyRecord = 'r'
	familyTopic  = 't'
	familyFloor  = 'f'
)

var (
	keyFormat = []byte("m/format")
	keyNextID = []byte("m/next-topic-id")
)

// formatVersion is the layout of keys and values in this package.
const formatVersion = 1

const (
	recordKeySize = 1 + 4 + 4 + 8
	offsetInKey   = 1 + 4 + 4
	// frameHeader is the checksum and the log time in front of a record.
	frameHeader = 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame: a stored value is not what was written. The caller knows the place.
var errFrame = errors.New("value does not match its checksum")

func putRecordKey(k []byte, topic uint32, p wal.Partition, o wal.Offset) {
	k[0] = familyRecord
	binary.BigEndian.PutUint32(k[1:], topic)
	binary.BigEndian.PutUint32(k[5:], uint32(p))
	binary.BigEndian.PutUint64(k[9:], uint64(o))
}

func recordKey(topic uint32, p wal.Partition, o wal.Offset) []byte {
	k := make([]byte, recordKeySize)
	putRecordKey(k, topic, p, o)
	return k
}

// partitionEnd is the first key after every record of a partition.
func partitionEnd(topic uint32, p wal.Partition) []byte {
	k := make([]byte, 9)
	k[0] = familyRecord
	binary.BigEndian.PutUint32(k[1:], topic)
	binary.BigEndian.PutUint32(k[5:], uint32(p)+1)
	return k
}

func topicSpan(family byte, topic uint32) (start, end []byte) {
	start, end = make([]byte, 5), make([]byte, 5)
	start[0], end[0] = family, family
	binary.BigEndian.PutUint32(start[1:], topic)
	binary.BigEndian.PutUint32(end[1:], topic+1)
	return start, end
}

func offsetOfKey(k []byte) (wal.Offset, bool) {
	if len(k) != recordKeySize {
		return 0, false
	}
	o := wal.Offset(binary.BigEndian.Uint64(k[9:]))
	return o, o >= 0
}

// crcSeed starts the checksum of a partition's records: incarnation and
// partition, which are the same for all of them.
func crcSeed(inc wal.Incarnation, p wal.Partition) uint32 {
	var b [20]byte
	copy(b[:], inc[:])
	binary.BigEndian.PutUint32(b[16:], uint32(p))
	return crc32.Checksum(b[:], castagnoli)
}

// frameSum takes the offset as it stands in the key, so that nothing is allocated
// for it.
func frameSum(seed uint32, offset, timeAndData []byte) uint32 {
	return crc32.Update(crc32.Update(seed, castagnoli, offset), castagnoli, timeAndData)
}

// putFrame fills dst, which has frameHeader+len(data) bytes.
func putFrame(dst []byte, seed uint32, offset []byte, logTime int64, data []byte) {
	binary.BigEndian.PutUint64(dst[4:], uint64(logTime))
	copy(dst[frameHeader:], data)
	binary.BigEndian.PutUint32(dst, frameSum(seed, offset, dst[4:]))
}

// readFrame checks v and returns what it holds; data points into v.
func readFrame(v []byte, seed uint32, offset []byte) (logTime int64, data []byte, err error) {
	if len(v) < frameHeader {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, len(v))
	}
	if binary.BigEndian.Uint32(v) != frameSum(seed, offset, v[4:]) {
		return 0, nil, errFrame
	}
	return int64(binary.BigEndian.Uint64(v[4:])), v[frameHeader:], nil
}

func topicKey(name string) []byte { return append([]byte{familyTopic}, name...) }

const topicValueSize = 1 + 4 + 4 + 16 + 4

// encodeTopic is the registry's value: version, id, partitions, incarnation,
// checksum over those and the name.
func encodeTopic(name string, id uint32, partitions int, inc wal.Incarnation) []byte {
	b := make([]byte, 0, topicValueSize)
	b = append(b, formatVersion)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(partitions))
	b = append(b, inc[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, []byte(name)))
}

func decodeTopic(name string, b []byte) (id uint32, partitions int, inc wal.Incarnation, err error) {
	bad := func(why string) error {
		return &wal.CorruptError{Topic: name, Offset: wal.NoOffset, Detail: "registry entry: " + why}
	}
	if len(b) != topicValueSize {
		return 0, 0, inc, bad(fmt.Sprintf("%d bytes", len(b)))
	}
	body := b[:topicValueSize-4]
	if binary.BigEndian.Uint32(b[topicValueSize-4:]) != crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, []byte(name)) {
		return 0, 0, inc, bad(errFrame.Error())
	}
	if b[0] != formatVersion {
		return 0, 0, inc, bad(fmt.Sprintf("unknown version %d", b[0]))
	}
	id = binary.BigEndian.Uint32(b[1:])
	partitions = int(binary.BigEndian.Uint32(b[5:]))
	copy(inc[:], b[9:])
	if partitions < 1 || partitions > maxPartitions || inc.IsZero() {
		return 0, 0, inc, bad("impossible value")
	}
	return id, partitions, inc, nil
}

func floorKey(topic uint32, p wal.Partition) []byte {
	k := make([]byte, 9)
	k[0] = familyFloor
	binary.BigEndian.PutUint32(k[1:], topic)
	binary.BigEndian.PutUint32(k[5:], uint32(p))
	return k
}

const floorValueSize = 8 + 8 + 4

// encodeFloor is the trim floor of a partition: where it starts, and a log time
// that none of its later records may be below.
func encodeFloor(seed uint32, floor wal.Offset, logTime int64) []byte {
	b := make([]byte, 0, floorValueSize)
	b = binary.BigEndian.AppendUint64(b, uint64(floor))
	b = binary.BigEndian.AppendUint64(b, uint64(logTime))
	return binary.BigEndian.AppendUint32(b, crc32.Update(seed, castagnoli, b))
}

func decodeFloor(seed uint32, b []byte) (floor wal.Offset, logTime int64, err error) {
	if len(b) != floorValueSize {
		return 0, 0, fmt.Errorf("trim floor of %d bytes", len(b))
	}
	if binary.BigEndian.Uint32(b[16:]) != crc32.Update(seed, castagnoli, b[:16]) {
		return 0, 0, fmt.Errorf("trim floor: %w", errFrame)
	}
	floor, logTime = wal.Offset(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	if floor < 0 {
		return 0, 0, fmt.Errorf("trim floor %d", floor)
	}
	return floor, logTime, nil
}
