#include "runner/cli.h"
#include "webhooks/serve.h"

int main(int argc, char **argv)
{
    cli_serve_by(serve_main);
    return cli_main(argc, argv);
}
