"""What the agent does all day, one loop a file: seeing, polling, updating, sending, beating, keeping logs. Joined in assemble."""
