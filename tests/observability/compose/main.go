// Command compose-check reads a compose file as `docker compose config` does, with the same parser:
// variables filled in, the schema checked, anchors merged, services' references resolved. It prints
// the result as JSON, or says what is wrong and ends with 1.
//
//	compose-check FILE [PROFILE...]
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("usage: compose-check FILE [PROFILE...]")
	}
	options, err := cli.NewProjectOptions(
		arguments[:1], cli.WithOsEnv, cli.WithDotEnv, cli.WithProfiles(arguments[1:]),
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	document, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(document)
	return err
}
