package millrace_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	longestFile     = 500 // lines
	longestFunction = 70  // lines
	shortFunction   = 30  // lines; 90 % of all functions are shorter
	mostParameters  = 4   // beside a context
)

// source is one Go file of ours.
type source struct {
	name string
	test bool
	file *ast.File
	set  *token.FileSet
}

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

func (s *source) lines(n ast.Node) int {
	return s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
}

func (s *source) imports(path string) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

// tracked are the files of the repository: what a clone has.
func tracked(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern).Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	return slices.DeleteFunc(names, func(name string) bool {
		_, err := os.Stat(name)
		return err != nil // removed and not yet committed
	})
}

func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, name := range tracked(t, "*.go") {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &source{name: name, test: strings.HasSuffix(name, "_test.go"), file: file, set: set})
	}
	return all
}

// functions calls do with every declared function.
func functions(t *testing.T, do func(s *source, f *ast.FuncDecl)) {
	t.Helper()
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				do(s, f)
			}
		}
	}
}

// calls calls do with every call of a selector, as in time.Sleep.
func calls(t *testing.T, do func(s *source, call *ast.CallExpr, on, name string)) {
	t.Helper()
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch f := call.Fun.(type) {
			case *ast.Ident:
				do(s, call, "", f.Name)
			case *ast.SelectorExpr:
				if on, ok := f.X.(*ast.Ident); ok {
					do(s, call, on.Name, f.Sel.Name)
				}
			}
			return true
		})
	}
}

// What fits on a screen is read; what does not is scrolled past.
func TestFunctionsAndFilesAreShort(t *testing.T) {
	all, short := 0, 0
	functions(t, func(s *source, f *ast.FuncDecl) {
		n := s.lines(f)
		if all++; n < shortFunction {
			short++
		}
		if n > longestFunction {
			t.Errorf("%s: %s has %d lines, more than %d", s.at(f), f.Name.Name, n, longestFunction)
		}
	})
	if 10*short < 9*all {
		t.Errorf("%d of %d functions are shorter than %d lines, less than nine in ten", short, all, shortFunction)
	}
	for _, s := range sources(t) {
		if n := s.set.File(s.file.FileStart).LineCount(); n > longestFile {
			t.Errorf("%s has %d lines, more than %d: which two ideas are in it?", s.name, n, longestFile)
		}
	}
}

// More than a handful of arguments are mixed up at some call; a struct names them.
func TestFunctionsTakeFewParameters(t *testing.T) {
	functions(t, func(s *source, f *ast.FuncDecl) {
		n := 0
		for _, p := range f.Type.Params.List {
			if sel, ok := p.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
				continue
			}
			n += max(1, len(p.Names))
		}
		if n > mostParameters && !(s.test && n == mostParameters+1) { // a test's helper takes t, too
			t.Errorf("%s: %s takes %d parameters", s.at(f), f.Name.Name, n)
		}
	})
}

// Code that runs because a package is linked cannot be tested, ordered or left out.
func TestNoInit(t *testing.T) {
	functions(t, func(s *source, f *ast.FuncDecl) {
		if f.Name.Name == "init" && f.Recv == nil {
			t.Errorf("%s: init; let the caller build what it needs", s.at(f))
		}
	})
}

// A sleep is too short on a busy machine and too long on every other. In a
// bubble of testing/synctest it takes no time and is exact.
func TestTestsDoNotSleep(t *testing.T) {
	calls(t, func(s *source, call *ast.CallExpr, on, name string) {
		if s.test && on == "time" && name == "Sleep" && !s.imports("testing/synctest") {
			t.Errorf("%s: time.Sleep in a test; wait for a channel or a condition, or use testing/synctest", s.at(call))
		}
	})
}

// A test that was skipped looks like one that passed. Only the recordings may be
// missing, because they lie beside the clone and not in it.
func TestNothingIsSkipped(t *testing.T) {
	calls(t, func(s *source, call *ast.CallExpr, on, name string) {
		if !s.test || on != "t" && on != "b" && on != "f" && on != "tb" || name != "Skip" && name != "Skipf" && name != "SkipNow" {
			return
		}
		if len(call.Args) == 1 {
			if reason, ok := call.Args[0].(*ast.BasicLit); ok && reason.Value == `"shared/data absent"` {
				return
			}
		}
		t.Errorf("%s: %s; what a test needs and does not find is a failure that names the remedy", s.at(call), name)
	})
}

// A panic in one connection ends everybody's.
func TestPanicsAreImpossible(t *testing.T) {
	calls(t, func(s *source, call *ast.CallExpr, on, name string) {
		if s.test || on != "" || name != "panic" {
			return
		}
		said := false
		ast.Inspect(call, func(n ast.Node) bool {
			text, ok := n.(*ast.BasicLit)
			said = said || ok && strings.HasPrefix(strings.Trim(text.Value, "\"`"), "impossible, because ")
			// net/http's own word for breaking off an answer; it recovers it.
			abort, ok := n.(*ast.SelectorExpr)
			said = said || ok && abort.Sel.Name == "ErrAbortHandler"
			return true
		})
		if !said {
			t.Errorf("%s: a panic that does not say 'impossible, because …'; return an error", s.at(call))
		}
	})
}

// The package comment is the sign on the door.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		dir := filepath.Dir(s.name)
		if !s.test || !said[dir] {
			said[dir] = said[dir] || s.file.Doc != nil
		}
	}
	for dir, ok := range said {
		if !ok {
			t.Errorf("package %s has no comment that says what it is", dir)
		}
	}
}

// Who uses a package reads its documentation, not its code.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && onExported(d) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(t, s, d)
			}
		}
	}
}

// onExported: it is a function, or a method of a type that others see, and not
// one of those that mean the same everywhere.
func onExported(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	if f.Name.Name == "Error" || f.Name.Name == "String" {
		return false
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// undocumented names what a declaration exports without a comment on it, beside
// it, or on its group.
func undocumented(t *testing.T, s *source, d *ast.GenDecl) {
	t.Helper()
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
				t.Errorf("%s: %s has no comment", s.at(spec), spec.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
					t.Errorf("%s: %s has no comment", s.at(spec), name.Name)
				}
			}
		}
	}
}

// What names a folder of one machine works on no other.
func TestNothingNamesOneMachine(t *testing.T) {
	folders := []string{"/" + "work/", "/" + "root/", "/" + "home/"}
	for _, name := range tracked(t, ".") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, folder := range folders {
				if strings.Contains(line, folder) {
					t.Errorf("%s:%d names %s", name, i+1, folder)
				}
			}
		}
	}
}
