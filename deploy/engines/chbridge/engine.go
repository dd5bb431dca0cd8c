package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// engine is the one connection that libchdb allows in a process; statements run one at a time.
type engine struct {
	dir string
	mu  sync.Mutex

	conn     unsafe.Pointer
	query    func(conn, q unsafe.Pointer, qlen uintptr, f unsafe.Pointer, flen uintptr) unsafe.Pointer
	buffer   func(r unsafe.Pointer) unsafe.Pointer
	length   func(r unsafe.Pointer) uintptr
	failure  func(r unsafe.Pointer) string
	rowsRead func(r unsafe.Pointer) uint64
	destroy  func(r unsafe.Pointer)
}

func cstr(s string) *byte { b := append([]byte(s), 0); return &b[0] }

// openEngine loads the library and opens the data of dir.
func openEngine(lib, dir string) (*engine, error) {
	h, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", lib, err)
	}
	e := &engine{dir: dir}
	var connect func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	for name, f := range map[string]any{
		"chdb_connect": &connect, "chdb_query_n": &e.query, "chdb_result_buffer": &e.buffer, "chdb_result_length": &e.length,
		"chdb_result_error": &e.failure, "chdb_result_rows_read": &e.rowsRead, "chdb_destroy_query_result": &e.destroy,
	} {
		purego.RegisterLibFunc(f, h, name)
	}
	argv := []*byte{cstr("clickhouse"), cstr("--path=" + dir)}
	conn := connect(int32(len(argv)), unsafe.Pointer(&argv[0]))
	if conn == nil {
		return nil, fmt.Errorf("open the data in %s: the engine refused", dir)
	}
	e.conn = *(*unsafe.Pointer)(conn)
	return e, nil
}

// one runs a statement. mu is held.
func (e *engine) one(q, format string) (answer []byte, rowsRead uint64, err error) {
	b := []byte(q)
	r := e.query(e.conn, unsafe.Pointer(&b[0]), uintptr(len(b)), unsafe.Pointer(cstr(format)), uintptr(len(format)))
	defer e.destroy(r)
	if s := e.failure(r); s != "" {
		return nil, 0, errors.New(s)
	}
	n := e.length(r)
	out := make([]byte, n)
	if n > 0 {
		copy(out, unsafe.Slice((*byte)(e.buffer(r)), n))
	}
	return out, e.rowsRead(r), nil
}

// run runs a statement with settings of its own.
func (e *engine) run(q, format string, settings map[string]string) (answer []byte, rowsRead uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, v := range settings {
		if !settingName.MatchString(k) {
			return nil, 0, fmt.Errorf("%q is no name of a setting", k)
		}
		if _, _, err := e.one("SET "+k+" = "+quote(v), "TSV"); err != nil {
			return nil, 0, err
		}
		defer func() {
			if _, _, undo := e.one("SET "+k+" = DEFAULT", "TSV"); undo != nil && !strings.HasPrefix(k, "param_") {
				err = errors.Join(err, undo)
			}
		}()
	}
	return e.one(q, format)
}

// clean removes what a kill has left of inserts.
func (e *engine) clean() error {
	left, err := filepath.Glob(filepath.Join(e.dir, "insert-*.native"))
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// insert runs an insert of data in Native format. It goes through a file: the engine reads
// inline data up to a limit only.
func (e *engine) insert(into target, data []byte, settings map[string]string) (err error) {
	f, err := os.CreateTemp(e.dir, "insert-*.native")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, _, err = e.run("INSERT INTO "+into.table+" "+into.columns+" FROM INFILE '"+f.Name()+"' FORMAT Native", "TSV", settings)
	return err
}

var (
	insertion   = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s+([^\s(]+)\s*(\([^)]*\))?\s*(?:SETTINGS\s+.*?)?\s*(?:FORMAT\s+Native)?\s*;?\s*$`)
	settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	errorCode   = regexp.MustCompile(`^Code: (\d+)`)
)

// target is where an insert goes: a table, and the columns in brackets or nothing.
type target struct{ table, columns string }

// insertOf takes an insert whose rows come in blocks apart; ok is false for any other statement.
func insertOf(q string) (t target, ok bool) {
	m := insertion.FindStringSubmatch(q)
	if m == nil {
		return t, false
	}
	return target{m[1], m[2]}, true
}

// sample is what has the columns of the insert.
func (t target) sample() string {
	if t.columns == "" {
		return t.table
	}
	return "(SELECT " + strings.Trim(t.columns, "()") + " FROM " + t.table + ")"
}

// codeOf is the engine's number of an error, 1 where it has none.
func codeOf(err error) int {
	if m := errorCode.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return 1
}

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
