package cli

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
)

func TestAValueByItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, pipe, terminal, base64 string }{
		{"good morning", "good morning", "good morning\n", "Z29vZCBtb3JuaW5n\n"},
		{"two\n\tlines\n", "two\n\tlines\n", "two\n\tlines\n", "dHdvCglsaW5lcwo=\n"},
		{"", "", "\n", "\n"},
		{"\x00\xff\n", "\x00\xff\n", `"\x00\xff\n"` + "\n", "AP8K\n"},
		{"\x1b[2Jgone", "\x1b[2Jgone", `"\x1b[2Jgone"` + "\n", "G1sySmdvbmU=\n"},
	} {
		for want, s := range map[*string]session{
			&c.pipe: {}, &c.terminal: {terminal: true}, &c.base64: {base64: true}, new(c.base64): {base64: true, terminal: true},
		} {
			var out bytes.Buffer
			s.cmd = &cobra.Command{}
			s.cmd.SetOut(&out)
			if err := s.raw([]byte(c.value)); err != nil || out.String() != *want {
				t.Errorf("%q (terminal %v, base64 %v): %q, %v; want %q", c.value, s.terminal, s.base64, &out, err, *want)
			}
		}
	}
}

func TestATableTellsTextFromWhatIsQuoted(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"text": "text", "grüße": "grüße", `{"a": "\n"}`: `{"a": "\n"}`, `"said"`: `"said"`,
		"\x00": `"\x00"`, `"\x00"`: `"\"\\x00\""`, "a\tb": `"a\tb"`, "a\u202eb": `"a\u202eb"`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %s; want %s", in, got, want)
		}
	}
}
