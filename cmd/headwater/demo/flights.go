package demo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // the sample
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// sample is the first 25,000 rows of the flights; SOURCE.md says whose they are.
//
//go:embed flights-25k.csv.gz
var sample []byte

// Source is whose data the sample is.
const Source = "US Bureau of Transportation Statistics, on-time data, January 2001 (work of the US government, public domain)"

// MaxRows bounds what is held in memory, at about 400 bytes a row.
const MaxRows = 5_000_000

// header is the first line of a file of flights.
var header = []string{"flight", "departed_at", "origin", "destination", "distance_miles", "delay_minutes"}

// Flight is one row. Its JSON is the value of its item.
type Flight struct {
	Flight        int64     `json:"flight"`
	DepartedAt    time.Time `json:"departedAt"`
	Origin        string    `json:"origin"`
	Destination   string    `json:"destination"`
	DistanceMiles int       `json:"distanceMiles"`
	DelayMinutes  int       `json:"delayMinutes"`
}

// Key is the key of the flight's item: keys sort by departure, then by row.
func (f *Flight) Key() string {
	return f.DepartedAt.Format(time.RFC3339) + "/" + fmt.Sprintf("%010d", f.Flight)
}

// row is a flight as it is stored.
type row struct {
	key   string
	value []byte
}

// airport is a record: the flights of one origin, by key.
type airport struct {
	code string
	rows []row
}

// Flights is what is to be loaded, by airport.
type Flights struct {
	// Name says where it comes from.
	Name     string
	Rows     int
	airports []airport
	// hash is of all rows, keys and values.
	hash string
	// trips are the rows in the order of the file, for the counters.
	trips []trip
	names names
	// legs are the rows in the order of the file, for the events.
	legs []leg
}

// Airports is the number of records that the flights make.
func (f *Flights) Airports() int { return len(f.airports) }

// Sample returns the first rows of the flights in the binary; 0: all of them.
func Sample(rows int) (*Flights, error) {
	f, err := read(bytes.NewReader(sample), rows)
	if err != nil {
		return nil, fmt.Errorf("read the flights in the binary: %w", err)
	}
	f.Name = "the sample in the binary; " + Source
	return f, nil
}

// File returns the first rows of a file in CSV, gzipped or not, with the columns of
// the sample; 0: all of them.
func File(name string, rows int) (_ *Flights, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open flights: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f, err := read(file, rows)
	if err != nil {
		return nil, fmt.Errorf("read flights from %s: %w", name, err)
	}
	f.Name = name
	return f, nil
}

// read reads CSV, or gzipped CSV, up to limit rows; 0: all.
func read(r io.Reader, limit int) (*Flights, error) {
	r, err := decompressed(r)
	if err != nil {
		return nil, err
	}
	in := csv.NewReader(r)
	in.FieldsPerRecord, in.ReuseRecord = len(header), true
	first, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if !slices.Equal(first, header) {
		return nil, fmt.Errorf("the header is %q; it must be %q", first, header)
	}
	f := &Flights{names: names{place: make(map[string]int32)}}
	index := make(map[string]int)
	for limit == 0 || f.Rows < limit {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read row %d: %w", f.Rows, err)
		}
		if f.Rows == MaxRows {
			return nil, fmt.Errorf("there are more than %d rows; load the first ones with --rows", MaxRows)
		}
		fl, err := parse(fields)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", f.Rows, err)
		}
		value, err := json.Marshal(fl)
		if err != nil {
			return nil, fmt.Errorf("encode row %d: %w", f.Rows, err)
		}
		i, ok := index[fl.Origin]
		if !ok {
			i = len(f.airports)
			index[fl.Origin] = i
			f.airports = append(f.airports, airport{code: fl.Origin})
		}
		f.airports[i].rows = append(f.airports[i].rows, row{key: fl.Key(), value: value})
		t := f.names.trip(fl)
		f.trips = append(f.trips, t)
		f.legs = append(f.legs, f.names.leg(fl, t))
		f.Rows++
	}
	if f.Rows == 0 {
		return nil, errors.New("there are no rows")
	}
	return f, f.finish()
}

func decompressed(r io.Reader) (io.Reader, error) {
	head := make([]byte, 2)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	if !bytes.Equal(head[:n], []byte{0x1f, 0x8b}) {
		return r, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return z, nil
}

func parse(fields []string) (*Flight, error) {
	var f Flight
	var errs [4]error
	f.Flight, errs[0] = strconv.ParseInt(fields[0], 10, 64)
	f.DepartedAt, errs[1] = time.Parse(time.RFC3339, fields[1])
	f.Origin, f.Destination = fields[2], fields[3]
	f.DistanceMiles, errs[2] = strconv.Atoi(fields[4])
	f.DelayMinutes, errs[3] = strconv.Atoi(fields[5])
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if f.Flight < 0 || f.Origin == "" {
		return nil, errors.New("flight is below zero, or origin is empty")
	}
	f.DepartedAt = f.DepartedAt.UTC()
	return &f, nil
}

// finish puts the rows in order and hashes them. Two rows of one key would be one
// item, which is a row lost: that is refused.
func (f *Flights) finish() error {
	slices.SortFunc(f.airports, func(a, b airport) int { return compare(a.code, b.code) })
	h := sha256.New()
	for i := range f.airports {
		a := &f.airports[i]
		slices.SortStableFunc(a.rows, func(x, y row) int { return compare(x.key, y.key) })
		for j := range a.rows {
			if j > 0 && a.rows[j].key == a.rows[j-1].key {
				return fmt.Errorf("two rows of %s are number %s; the column flight must tell rows apart", a.code, a.rows[j].key)
			}
			fmt.Fprintf(h, "%d %s %d %s %d ", len(a.code), a.code, len(a.rows[j].key), a.rows[j].key, len(a.rows[j].value))
			h.Write(a.rows[j].value)
		}
	}
	f.hash = hex.EncodeToString(h.Sum(nil)[:16])
	return nil
}
