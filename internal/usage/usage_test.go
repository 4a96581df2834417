package usage

import (
	"fmt"
	"testing"
	"time"
)

func at(second int64) time.Time { return time.Unix(second, 0).UTC() }

func TestMerge(t *testing.T) {
	many := func(n int) (valid []string, uses []Use) {
		for i := range n {
			valid = append(valid, fmt.Sprint(i))
			uses = append(uses, Use{fmt.Sprint(i), at(int64(100 - i))})
		}
		return valid, uses
	}
	valid17, uses17 := many(17)
	for name, c := range map[string]struct {
		reported, seen []Use
		valid          []string
		want           []Use
	}{
		"nothing":              {nil, nil, []string{"1"}, nil},
		"first use":            {nil, []Use{{"1", at(5)}}, []string{"1"}, []Use{{"1", at(5)}}},
		"the later counts":     {[]Use{{"1", at(7)}, {"2", at(3)}}, []Use{{"1", at(5)}, {"2", at(6)}}, []string{"2", "1"}, []Use{{"1", at(7)}, {"2", at(6)}}},
		"latest first":         {[]Use{{"1", at(7)}}, []Use{{"2", at(8)}}, []string{"1", "2"}, []Use{{"2", at(8)}, {"1", at(7)}}},
		"one order for ties":   {[]Use{{"2", at(7)}}, []Use{{"1", at(7)}}, []string{"2", "1"}, []Use{{"1", at(7)}, {"2", at(7)}}},
		"only valid ones":      {[]Use{{"1", at(7)}}, []Use{{"2", at(8)}, {"3", at(9)}}, []string{"2"}, []Use{{"2", at(8)}}},
		"whole seconds in UTC": {nil, []Use{{"1", at(5).Add(999 * time.Millisecond).In(time.FixedZone("", 3600))}}, []string{"1"}, []Use{{"1", at(5)}}},
		"a version twice":      {[]Use{{"1", at(5)}, {"1", at(7)}}, nil, []string{"1", "1"}, []Use{{"1", at(7)}}},
		"at most 16":           {uses17, nil, valid17, uses17[:16]},
	} {
		if got := Merge(c.reported, c.seen, c.valid); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
}

func TestGap(t *testing.T) {
	if got := Gap(time.Hour, true); got != time.Hour {
		t.Errorf("with a replaced secret %s", got)
	}
	if got := Gap(time.Hour, false); got != 24*time.Hour {
		t.Errorf("otherwise %s", got)
	}
}
