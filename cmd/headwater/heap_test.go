package main

import (
	"os"
	"testing"
)

func TestHeapIsHeldUnlessTheOperatorSaysHow(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if v, ok := os.LookupEnv(name); ok { // so that the test is about what it sets
			t.Setenv(name, v) // puts it back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	release := holdHeap()
	if len(held) != heapFloor {
		t.Errorf("%d bytes are held, want %d", len(held), heapFloor)
	}
	release()
	if held != nil {
		t.Error("the heap is held after its release")
	}
	for name, v := range map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, v)
			defer holdHeap()()
			if held != nil {
				t.Errorf("with %s=%s %d bytes are held", name, v, len(held))
			}
		})
	}
}
