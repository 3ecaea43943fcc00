def test_up(slurm, tmp_path):
    s = tmp_path / "a.sh"
    s.write_text("#!/bin/sh\nenv | grep SLURM; sleep 3\n")
    job = slurm.submit(s)
    import time
    for _ in range(10):
        print(slurm.state(job)); time.sleep(0.5)
    print(open(str(s)+".out").read())
    print(slurm.ask("scontrol","show","config"))
